#!/bin/sh
# Stand-in for the entry point of the nginx image, written for the test fleet; the server behind it is Debian's own.
# Runs /docker-entrypoint.d/*.sh in order, after filling /etc/nginx/templates/*.template into /etc/nginx/conf.d.
set -eu
if [ "${1-}" = nginx ] || [ "${1-}" = nginx-debug ]; then
    for template in /etc/nginx/templates/*.template; do
        [ -e "$template" ] || continue
        # Only names that are set are replaced: nginx has $variables of its own.
        names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | tr '\n' ' ')
        envsubst "$names" <"$template" >"/etc/nginx/conf.d/$(basename "$template" .template)"
    done
    for script in /docker-entrypoint.d/*; do
        [ -e "$script" ] || continue
        case "$script" in
        *.envsh) [ ! -x "$script" ] || . "$script" ;;
        *.sh) [ ! -x "$script" ] || "$script" ;;
        esac
    done
fi
exec "$@"
