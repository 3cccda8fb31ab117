#!/bin/sh
# Stand-in for the entry point of the redis image, written for the test fleet; the server behind it is Debian's own.
set -eu
case "${1-redis-server}" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "${1-}" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . ! -user redis -exec chown redis:redis {} +
        exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
    fi
    shift
    # The image's server is built without protected mode: containers are reached through a bridge, not through loopback.
    case "${1-}" in *.conf) config=$1; shift; set -- "$config" --protected-mode no "$@" ;; *) set -- --protected-mode no "$@" ;; esac
    set -- redis-server "$@"
fi
exec "$@"
