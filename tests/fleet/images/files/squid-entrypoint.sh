#!/bin/sh
# Stand-in for the entry point of the ubuntu/squid image, written for the test fleet; the proxy behind it is Debian's own.
set -eu
mkdir -p /var/log/squid /var/spool/squid /run
chown proxy:proxy /var/log/squid /var/spool/squid
touch /var/log/squid/access.log /var/log/squid/cache.log
chown proxy:proxy /var/log/squid/*.log
case "${1-}" in "" | -*) set -- squid -f /etc/squid/squid.conf -NYC "$@" ;; esac
exec "$@"
