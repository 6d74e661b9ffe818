#!/bin/sh
# Installs the Debian packages of the tools that `make bench` compares with, and valgrind for the
# instruction counts.  All are optional: what cannot be had is said and left out of the comparison.
set -u

want='tcpdump tshark argus-server argus-client softflowd nfdump
golang-go golang-github-google-gopacket-dev libpcap-dev valgrind'

missing=
for p in $want; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "Left out, since only root can install them:$missing" >&2
	exit 0
fi

# Some of these packages would start a collector at once; Debian asks this file first.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT TERM
fi

echo "Installing, to compare with:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || true
for p in $missing; do
	apt-get install -y -qq --no-install-recommends "$p" >/dev/null ||
		echo "Left out, could not be installed: $p" >&2
done
exit 0
