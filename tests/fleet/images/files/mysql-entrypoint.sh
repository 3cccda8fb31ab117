#!/bin/sh
# Stand-in for the entry point of the mysql image, written for the test fleet; the server behind it is Debian's own MariaDB.
# Knows MYSQL_ROOT_PASSWORD and MYSQL_DATABASE, and options for the server as arguments.
set -eu
data=/var/lib/mysql
mkdir -p /run/mysqld "$data"
chown mysql:mysql /run/mysqld "$data"
if [ ! -d "$data/mysql" ]; then
    [ -n "${MYSQL_ROOT_PASSWORD-}" ] || { echo "error: MYSQL_ROOT_PASSWORD is not set" >&2; exit 1; }
    mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal --skip-test-db >/dev/null
    cat >/run/mysqld/init.sql <<SQL
ALTER USER 'root'@'localhost' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS \`${MYSQL_DATABASE:-mysql}\`;
SQL
    chown mysql:mysql /run/mysqld/init.sql
    chmod 600 /run/mysqld/init.sql
    set -- --init-file=/run/mysqld/init.sql "$@"
fi
unset MYSQL_ROOT_PASSWORD
exec mariadbd --user=mysql --datadir="$data" --bind-address=0.0.0.0 --skip-name-resolve "$@"
