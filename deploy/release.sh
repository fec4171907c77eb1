#!/bin/sh
# Releases by a plan and writes what became of it: for a pipeline, on the load balancer's host or on one that reaches its socket.
#
#   release.sh NAME PLAN [REPORT.html]
#
# NAME is the plan's `metadata.name`. From the environment: GRAYXDP (the program), GRAYXDP_SOCKET, GRAYXDP_CONFIG (the plan is
# checked against it), DEPLOY_HOOK (a command that brings the new version up), ROLLOUT_TIMEOUT, ROLLOUT_REASON.
# Exit status: that of `grayxdp rollout start --wait`: 0 promoted, 1 failed, 2 wrong input, 3 rolled back, 4 timed out,
# 5 waits for an operator.
set -eu

name=$1
plan=$2
report=${3:-rollout-report.html}

grayxdp() {
    "${GRAYXDP:-grayxdp}" ${GRAYXDP_SOCKET:+--socket "$GRAYXDP_SOCKET"} "$@"
}

# A plan that cannot work is found before anything is deployed.
grayxdp plan lint "$plan" ${GRAYXDP_CONFIG:+--config "$GRAYXDP_CONFIG"}

if [ -n "${DEPLOY_HOOK:-}" ]; then
    sh -c "$DEPLOY_HOOK"
fi

status=0
grayxdp rollout start "$plan" --reason "${ROLLOUT_REASON:-released by a pipeline}" \
    --wait --timeout "${ROLLOUT_TIMEOUT:-6h}" || status=$?

case $status in
0) echo "$name: promoted" ;;
3) echo "$name: rolled back" ;;
4) echo "$name: not done in time; it goes on, \`grayxdp rollout get $name\`" ;;
5) echo "$name: waits for \`grayxdp rollout resume $name\`" ;;
*) echo "$name: not released, status $status" ;;
esac

# A refused start has nothing to report, and the report must not hide the status.
if [ "$status" -ne 2 ]; then
    grayxdp rollout report "$name" --html --file "$report" || echo "no report"
    if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
        grayxdp rollout report "$name" >>"$GITHUB_STEP_SUMMARY" || echo "no summary"
    fi
fi
exit "$status"
