#!/bin/sh
# Stand-in for the entry point of the postgres image, written for the test fleet; the server behind it is Debian's own.
# Knows POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD (each of the
# first four also as NAME_FILE), PGDATA, and /docker-entrypoint-initdb.d/*.{sh,sql,sql.gz}.
set -eu

from_file() { # NAME [default]: takes the value from the file that NAME_FILE names
    eval "value=\${$1-} file=\${$1_FILE-}"
    [ -z "$value" ] || [ -z "$file" ] || { echo "error: both $1 and $1_FILE are set (but are exclusive)" >&2; exit 1; }
    [ -z "$file" ] || value=$(cat "$file")
    eval "$1=\${value:-\${2-}}"
    export "$1"
    unset "$1_FILE"
}

case "${1-postgres}" in -*) set -- postgres "$@" ;; esac
[ "${1-}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres:postgres {} +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER postgres
    from_file POSTGRES_DB "$POSTGRES_USER"
    from_file POSTGRES_INITDB_ARGS
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$method" != trust ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        echo "       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser." >&2
        exit 1
    fi
    secret=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:-unused}" >"$secret"
    # shellcheck disable=SC2086 # the arguments are meant to be split
    initdb --username="$POSTGRES_USER" --pwfile="$secret" --auth-local=trust --auth-host=trust $POSTGRES_INITDB_ARGS
    rm -f "$secret"
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
    printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
    # The first server listens on its socket alone: a client must not meet a half made database.
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
    if [ "$POSTGRES_DB" != postgres ]; then
        psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --set db="$POSTGRES_DB" <<'SQL'
CREATE DATABASE :"db";
SQL
    fi
    for script in /docker-entrypoint-initdb.d/*; do
        case "$script" in
        *.sh) echo "$0: running $script"; if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
        *.sql) echo "$0: running $script"; psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-psqlrc -f "$script" ;;
        *.sql.gz) echo "$0: running $script"; gunzip -c "$script" | psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-psqlrc ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    echo
    echo "PostgreSQL init process complete; ready for start up."
    echo
fi
unset POSTGRES_PASSWORD
exec "$@"
