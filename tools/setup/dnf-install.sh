#!/bin/sh
# Installs packages on Fedora. Run as root by setup.mjs: dnf-install.sh PACKAGE…
# A package may be `a|b`: the first that this release has. Nothing is started: on Fedora services
# wait for their presets.
set -u

install() { dnf -y --setopt=install_weak_deps=False install "$@"; }

plain=
for package in "$@"; do
  case $package in
    *'|'*) ;;
    *) plain="$plain $package" ;;
  esac
done
if [ -n "$plain" ]; then
  # Package names hold no blanks.
  # shellcheck disable=SC2086
  install $plain || exit 1
fi
for package in "$@"; do
  case $package in
    *'|'*) install "${package%%|*}" || install "${package#*|}" || exit 1 ;;
  esac
done
exit 0
