#!/bin/sh
# Installs the packages of Debian 12 or 13 that the build and the tests need, and those that the
# arguments name, if they are missing here.  Says nothing when nothing is missing.  Needs root only
# when something is.  It starts no service: nginx and haproxy are here as programs for tests, so their
# units are masked before they are installed.  Where they are installed already, nothing changes.
set -eu

need="$* build-essential pkg-config libsystemd-dev libjansson-dev libmd-dev libbpf-dev bpftool
libpcap-dev libseccomp-dev libcap-ng-dev zlib1g-dev liblzma-dev libzstd-dev zstd
systemd systemd-container dbus debhelper lintian lowdown
clang clang-format libclang-rt-dev iproute2 nftables socat netcat-openbsd curl jq
python3 python3-jsonschema mandoc procps tshark tcptrace tcpdump
golang-go golang-github-varlink-go-dev nginx haproxy"

# A kernel of its own, for what would disturb this one.
case $(dpkg --print-architecture) in
amd64 | i386) need="$need user-mode-linux" ;;
esac

missing=
for p in $need; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "These packages are missing and only root can install them:$missing" >&2
	exit 1
fi
echo "Installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
policy=/usr/sbin/policy-rc.d # without systemd (chroot, container) a mask does not help
for p in nginx haproxy; do
	case " $missing " in
	*" $p "*)
		unit=/etc/systemd/system/$p.service
		[ -e "$unit" ] || [ -L "$unit" ] || ln -s /dev/null "$unit"
		[ -e $policy ] || {
			printf '#!/bin/sh\nexit 101\n' >$policy
			chmod 755 $policy
			trap 'rm -f $policy' EXIT
		}
		;;
	esac
done
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
