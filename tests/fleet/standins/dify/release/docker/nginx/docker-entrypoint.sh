#!/bin/sh
# Renders the templates with the variables of the container, then runs nginx.
set -eu
SSL_CERTIFICATE_PATH="/etc/ssl/${NGINX_SSL_CERT_FILENAME}"
SSL_CERTIFICATE_KEY_PATH="/etc/ssl/${NGINX_SSL_CERT_KEY_FILENAME}"
HTTPS_CONFIG=""
ACME_CHALLENGE_LOCATION=""
if [ "${NGINX_ENABLE_CERTBOT_CHALLENGE}" = true ]; then
    ACME_CHALLENGE_LOCATION='location /.well-known/acme-challenge/ { root /var/www/html; }'
fi
export SSL_CERTIFICATE_PATH SSL_CERTIFICATE_KEY_PATH
names='${NGINX_WORKER_PROCESSES} ${NGINX_KEEPALIVE_TIMEOUT} ${NGINX_CLIENT_MAX_BODY_SIZE} ${NGINX_PROXY_READ_TIMEOUT} ${NGINX_PROXY_SEND_TIMEOUT}
${NGINX_PORT} ${NGINX_SSL_PORT} ${NGINX_SERVER_NAME} ${NGINX_SSL_PROTOCOLS} ${SSL_CERTIFICATE_PATH} ${SSL_CERTIFICATE_KEY_PATH}
${HTTPS_CONFIG} ${ACME_CHALLENGE_LOCATION}'
if [ "${NGINX_HTTPS_ENABLED}" = true ]; then
    HTTPS_CONFIG=$(envsubst "$names" < /etc/nginx/https.conf.template)
fi
export HTTPS_CONFIG ACME_CHALLENGE_LOCATION
envsubst "$names" < /etc/nginx/nginx.conf.template > /etc/nginx/nginx.conf
envsubst "$names" < /etc/nginx/proxy.conf.template > /etc/nginx/proxy.conf
envsubst "$names" < /etc/nginx/conf.d/default.conf.template > /etc/nginx/conf.d/default.conf
exec nginx -g 'daemon off;'
