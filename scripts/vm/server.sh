#!/bin/sh
# The server's guest: does what the client's guest says, until that says it is done.
# shellcheck source=scripts/vm/lib.sh
. /payload/lib.sh

address 2
nc -ll -p "$AGENT_PORT" -e /payload/agent.sh &
while [ ! -e finished ]; do sleep 1; done
