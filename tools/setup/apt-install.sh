#!/bin/sh
# Installs packages on Debian and Ubuntu without letting any of them start or enable a service.
# Run as root by setup.mjs: apt-install.sh PACKAGE…
#
# dpkg's scripts ask /usr/sbin/policy-rc.d before they start a service (invoke-rc.d(8)); while the
# packages are installed it answers 101, "forbidden". The one that stood there is put back
# afterwards, also when the installation fails or is interrupted, and at the next run if this
# one is killed.
set -u

policy=${KQTIME_POLICY_RC_D:-/usr/sbin/policy-rc.d}
saved=$policy.before-kqtime
marker='kqtime-setup'
lock=${KQTIME_SETUP_LOCK:-/run/kqtime-setup.lock}
units=${KQTIME_SYSTEMD_UNITS:-/etc/systemd/system}

# Units that the packages for the tests bring; enabled, they would start at the next boot.
services='nginx redis-server tor postgresql iperf3'

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none

put_back() {
  if [ -e "$saved" ] || [ -L "$saved" ]; then
    mv -f "$saved" "$policy"
  elif [ -f "$policy" ] && grep -q "$marker" "$policy"; then
    rm -f "$policy"
  fi
}

# Two set-ups at a time would each take the other's policy for their own leftovers.
if command -v flock >/dev/null 2>&1 && : 2>/dev/null >"$lock"; then
  exec 9>"$lock"
  flock 9
fi

put_back
trap put_back EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -e "$policy" ] || [ -L "$policy" ]; then mv -f "$policy" "$saved" || exit 1; fi
printf '#!/bin/sh\n# %s: no service starts while its packages are installed.\nexit 101\n' \
  "$marker" >"$policy" && chmod 755 "$policy" || exit 1

enabled_services() {
  for service in $services; do
    for wants in "$units"/*.wants; do
      if [ -L "$wants/$service.service" ]; then echo "$service"; break; fi
    done
  done
}
enabled_before=" $(enabled_services | tr '\n' ' ')"

apt() { apt-get -q -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@"; }

updated=no
update() {
  [ "$updated" = no ] || return 1
  updated=yes
  apt update
}

# The lists may be absent (a container's image) or know other versions than the mirror has now.
apt -s install --no-install-recommends "$@" >/dev/null 2>&1 || update || exit 1
if ! apt -y install --no-install-recommends "$@"; then
  update && apt -y install --no-install-recommends "$@" || exit 1
fi

for service in $(enabled_services); do
  case $enabled_before in
    *" $service "*) ;;
    *)
      # Where there is no systemctl (a container), the link is all there is.
      systemctl disable "$service.service" >/dev/null 2>&1 ||
        rm -f "$units"/*.wants/"$service.service"
      ;;
  esac
done
exit 0
