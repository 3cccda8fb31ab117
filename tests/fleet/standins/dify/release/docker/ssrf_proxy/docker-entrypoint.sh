#!/bin/sh
# Renders squid.conf from its template, then runs squid in the foreground.
set -eu
allowed=""
if [ -n "${SSRF_PROXY_ALLOW_PRIVATE_IPS:-}" ]; then
    addresses=$(printf '%s' "$SSRF_PROXY_ALLOW_PRIVATE_IPS" | tr ',' ' ')
    allowed="acl allowed_addresses dst $addresses\\nhttp_access allow clients allowed_addresses"
fi
if [ -n "${SSRF_PROXY_ALLOW_PRIVATE_DOMAINS:-}" ]; then
    names=$(printf '%s' "$SSRF_PROXY_ALLOW_PRIVATE_DOMAINS" | tr ',' ' ')
    allowed="${allowed:+$allowed\\n}acl allowed_names dstdomain $names\\nhttp_access allow clients allowed_names"
fi
sed -e "s|@HTTP_PORT@|$HTTP_PORT|; s|@COREDUMP_DIR@|$COREDUMP_DIR|; s|@REVERSE_PROXY_PORT@|$REVERSE_PROXY_PORT|" \
    -e "s|@SANDBOX_HOST@|$SANDBOX_HOST|; s|@SANDBOX_PORT@|$SANDBOX_PORT|; s|@ALLOWED_PRIVATE@|$allowed|" \
    /etc/squid/squid.conf.template > /etc/squid/squid.conf
exec squid -f /etc/squid/squid.conf -NYC
