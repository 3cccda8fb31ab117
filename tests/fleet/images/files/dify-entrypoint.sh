#!/bin/bash
# Entry point of the stand-ins for Dify's images, written for the test fleet. DIFY_IMAGE (set in each image) and, for the
# api image, MODE choose the part to play, as MODE does in the image that this one stands for.
set -eu
case "${DIFY_IMAGE:-api}" in
api)
    case "${MODE:-api}" in
    worker) part=worker ;;
    beat) part=worker_beat ;;
    websocket | api_websocket | collaboration) part=websocket ;;
    api) part=api ;;
    *) # migration, job and others are one-shot modes that the stand-in does not play
        echo "dify stand-in: MODE=$MODE is not played by this stand-in" >&2
        exit 1
        ;;
    esac
    ;;
*) part=$DIFY_IMAGE ;;
esac
exec python3 -m dify_standin "$part" "$@"
