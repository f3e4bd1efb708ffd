# Sourced (bash) by tests/check and tests/demo: everything that they need on a fresh machine.
#
#   need_packages         installs what is missing of the distribution's packages; needs root only then
#   need_cluster_packages the same for the test cluster (tests/cluster); without root it only says what is missing
#   make_promtool         build/promtool: what checks alert rules, without the daemon of its package
#   make_venv             build/venv: what the tests run on (tests/requirements.txt)
#   make_boto3 oldest     build/boto3-oldest: the oldest boto3 that the agent supports and this Python imports
#   make_boto3 newest     build/boto3-newest: the newest there is
#   build_agent           build/install: the agent, built from a copy of the sources by configure and make
#
# All of them are quick when there is nothing to do. Everything lands in build/, which git ignores. What fetches something
# does so up to three times.
#
# tests/distro and .ci/run also use contain, wait_contained and stop_contained: a program, and all that it starts and
# mounts, ends with its caller.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
PYTHON=/usr/bin/python3   # the distribution's: the one on PATH often is not, and cannot import the fencing library
VENV=$build/venv
AGENT=$build/install/sbin/fence_aws_vpc_net

die() {
    echo "$0: $*" >&2
    exit 1
}

# The caller's Python settings must not reach what is built and tested. No bytecode beside the sources.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH PYTHONPYCACHEPREFIX PYTHONWARNINGS PYTHONOPTIMIZE \
    VIRTUAL_ENV MAKEFLAGS MAKELEVEL DESTDIR CONFIG_SITE
export PYTHONDONTWRITEBYTECODE=1

# patiently COMMAND…: up to three times, since a mirror may fail for a moment.
patiently() {
    local pause
    for pause in 5 20; do
        ! "$@" || return 0
        echo "failed; again in $pause s: $1" >&2
        sleep "$pause"
    done
    "$@"
}

### Packages

# a|b: the first that the distribution has. fence-agents-common, where it exists, is all of fence-agents that is needed.
_debian_packages="fence-agents-common|fence-agents python3 python3-boto3 python3-venv
    autoconf automake make pkg-config xsltproc libxml2-utils logrotate"
_fedora_packages="fence-agents-common python3 python3-boto3 python3-pip
    autoconf automake make pkgconf-pkg-config libxslt libxml2 diffutils logrotate"
_suse_packages="fence-agents python3 python3-boto3 python3-pip
    autoconf automake make pkg-config libxslt-tools libxml2-tools diffutils logrotate"

_has_deb() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }
_has_rpm() { rpm -q --quiet --whatprovides "$1" 2>/dev/null; }

_install_deb() {
    local package chosen=()
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || return
    for package in "$@"; do
        chosen+=("$(_first_available "$package")")
    done
    apt-get install -y -qq --no-install-recommends "${chosen[@]}"
}
_first_available() {
    local package
    for package in ${1//|/ }; do
        ! _is_available "$package" || break
    done
    echo "$package"
}
_is_available() { [[ $(apt-cache policy "$1") == *$'\n  Candidate: '[!\(]* ]]; }
_install_dnf() { dnf install -y -q --setopt=install_weak_deps=False "$@"; }
_install_zypper() { zypper --non-interactive --quiet install --no-recommends "$@"; }

# _missing KIND: those of _<distribution>_KIND that are not installed go to $missing, the command that installs to $install.
_missing() {
    local family has package list
    if command -v apt-get >/dev/null; then
        family=debian has=_has_deb install=_install_deb
    elif command -v dnf >/dev/null; then
        family=fedora has=_has_rpm install=_install_dnf
    elif command -v zypper >/dev/null; then
        family=suse has=_has_rpm install=_install_zypper
    else
        die "neither apt-get nor dnf nor zypper here: install by hand what tests/setup.sh lists for Debian"
    fi
    list=_${family}_$1 missing=()
    for package in ${!list}; do
        _has_any "$package" || missing+=("$package")
    done
}
_has_any() {
    local package
    for package in ${1//|/ }; do
        ! $has "$package" || return 0
    done
    return 1
}

_install_missing() {
    mkdir -p "$build/log"
    patiently $install "${missing[@]}" </dev/null >"$build/log/$1" 2>&1 || {
        tail -n 20 "$build/log/$1" >&2
        die "could not install: ${missing[*]}"
    }
}

need_packages() {
    local install missing
    _missing packages
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $(id -u) == 0 ]] || die "packages are missing; install them, or run this as root once: ${missing[*]}"
    _install_missing packages
}

### What the test cluster needs, with daemons that must not start here

_debian_cluster="corosync pacemaker pacemaker-cli-utils pcs crmsh resource-agents nftables iproute2 conntrack util-linux
    fence-agents-kdump|fence-agents fence-agents-dummy|fence-agents"
_fedora_cluster="corosync pacemaker pacemaker-cli pcs resource-agents nftables iproute conntrack-tools util-linux"
_suse_cluster="corosync pacemaker pacemaker-cli pcs crmsh resource-agents nftables iproute2 conntrack-tools util-linux"
_policy=/usr/sbin/policy-rc.d

# Those that run in this machine's own network; the ones of test clusters are in others.
_running_daemons() {
    local comm name
    for comm in /proc/[0-9]*/comm; do
        { read -r name <"$comm"; } 2>/dev/null || continue
        case $name in
            corosync | pacemakerd) [[ ! ${comm%comm}ns/net -ef /proc/self/ns/net ]] || echo "$name" ;;
        esac
    done | sort -u | paste -sd ' '
}

_forbid_daemons() {
    _allow_daemons   # what an interrupted run may have left
    [[ ! -e $_policy && ! -L $_policy ]] || mv "$_policy" "$_policy.fence_aws_vpc_net"
    printf '#!/bin/sh\n# fence_aws_vpc_net: no daemon is started while packages for its test cluster are installed\nexit 101\n' \
        >"$_policy"
    chmod 755 "$_policy"
}

_allow_daemons() {
    ! grep -qs '^# fence_aws_vpc_net: ' "$_policy" || rm -f "$_policy"
    [[ ! -e $_policy.fence_aws_vpc_net && ! -L $_policy.fence_aws_vpc_net ]] || mv "$_policy.fence_aws_vpc_net" "$_policy"
}

# Debian starts daemons when it installs them, unless policy-rc.d says no; and it enables them for the next boot.
_install_cluster() (
    trap _allow_daemons EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    [[ $install != _install_deb ]] || _forbid_daemons
    _install_missing packages-cluster
    _disable_new_daemons
)

# Only what was not there before: whether the others start is not our affair.
_disable_new_daemons() {
    local package
    command -v systemctl >/dev/null || return 0
    for package in "${missing[@]}"; do
        case $package in
            corosync | pacemaker) systemctl --quiet disable "$package" >/dev/null 2>&1 || true ;;
            pcs) systemctl --quiet disable pcsd >/dev/null 2>&1 || true ;;
        esac
    done
}

need_cluster_packages() {
    local install missing running
    running=$(_running_daemons)
    [[ -z $running ]] || die "a cluster runs on this machine ($running): no test cluster is started beside it"
    _missing cluster
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if [[ $(id -u) != 0 ]]; then
        echo "not root, so the test cluster is left out; its packages are missing: ${missing[*]}"
        return 0
    fi
    _install_cluster
}

### promtool, for tests/alerts

# The package is unpacked, not installed: it would start a daemon. If the machine has no list of packages, one is made
# in build/, which needs no root.
_fetch_promtool() {
    local lists=$build/promtool/lists
    local own=(-o "Dir::State::Lists=$lists" -o "Dir::Cache=$build/promtool/cache" -o APT::Sandbox::User="$(id -un)")
    cd "$build/promtool"
    _download_promtool -o APT::Sandbox::User="$(id -un)" || {
        mkdir -p "$lists/partial" "$build/promtool/cache/archives/partial"
        apt-get -qq "${own[@]}" update && _download_promtool "${own[@]}"
    } || return
    dpkg --fsys-tarfile prom*.deb | tar -xO ./usr/bin/promtool >promtool || return
    chmod 755 promtool
    rm -rf prom*.deb lists cache
}
# A package of its own from Debian 13 on.
_download_promtool() { apt-get -qq "$@" download promtool || apt-get -qq "$@" download prometheus; }

# Debian has it; elsewhere the one on PATH is used, and without one the tests of alerts are skipped.
make_promtool() {
    local folder=$build/promtool key found
    if command -v apt-get >/dev/null; then
        key="prometheus $(dpkg --print-architecture)"
        _fresh "$folder" "$key" && return
        mkdir -p "$folder" "$build/log"
        (patiently _fetch_promtool) >"$build/log/promtool-fetch" 2>&1 || {
            tail -n 20 "$build/log/promtool-fetch" >&2
            die "could not fetch promtool from the packages promtool and prometheus"
        }
        _complete "$folder" "$key"
    elif found=$(command -v promtool); then
        mkdir -p "$folder"
        ln -sf "$found" "$folder/promtool"
    else
        echo "no promtool here, so the tests of alert rules are left out"
    fi
}

### What comes from PyPI

# Its warnings (of what the machine's pip settings say, of what does not fit the virtual environment) matter only if it fails.
_pip_install() {
    mkdir -p "$build/log"
    patiently "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-input "$@" >"$build/log/pip" 2>&1 || {
        cat "$build/log/pip" >&2
        return 1
    }
}

# _fresh FOLDER KEY: true if FOLDER was completed with this KEY; else FOLDER is removed, to be made anew.
_fresh() {
    [[ -f $1/.complete && $(<"$1/.complete") == "$2" ]] && return
    rm -rf "$1"
    return 1
}
_complete() { echo "$2" >"$1/.complete"; }

# Without the system's packages: Debian's pyOpenSSL and the cryptography that moto brings do not import together.
make_venv() {
    local key
    # Its scripts hold the path, so that it is of no use in a checkout that has moved.
    key="$VENV $("$PYTHON" --version) $(sha256sum <"$top/tests/requirements.txt")"
    _fresh "$VENV" "$key" && return
    "$PYTHON" -m venv "$VENV" || die "no virtual environment in $VENV"
    _pip_install -r "$top/tests/requirements.txt" || die "could not install tests/requirements.txt into $VENV"
    _complete "$VENV" "$key"
}

_python_is_at_least() { "$PYTHON" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, sys.argv[1].split("."))))' "$1"; }

# To be put on PYTHONPATH. pip alone would take a later botocore for the oldest boto3.
make_boto3() {
    local folder=$build/boto3-$1 packages
    case $1 in
        # On Python 3.12, and on 3.13, which has no module cgi, older ones do not import.
        oldest) _python_is_at_least 3.12 && packages="boto3==1.26.13 botocore==1.29.13" ||
            packages="boto3==1.17.102 botocore==1.20.102" ;;
        newest) packages="boto3" ;;
        *) die "make_boto3 oldest|newest" ;;
    esac
    _fresh "$folder" "$packages" && return
    # shellcheck disable=SC2086  # a list
    PIP_ROOT_USER_ACTION=ignore _pip_install --target "$folder" $packages || die "could not install $packages from PyPI"
    _complete "$folder" "$packages"
}

### The agent

_sources="agents lib tests doc .ci .github configure.ac Makefile.am README.md LICENSE .gitignore .mypy.ini .pytest.ini .ruff.toml"

# What a build depends on.
_build_key() {
    local names
    cd "$top"
    # shellcheck disable=SC2086  # names
    names=$(ls -d $_sources 2>/dev/null) || true
    # shellcheck disable=SC2086
    echo "$build $("$PYTHON" --version) $(find $names -name __pycache__ -prune -o -type f -print0 | sort -z | xargs -0 sha256sum |
        sha256sum)"
}

# autoreconf writes into the source tree, so it is given a copy (build/src). The build itself is in build/tree.
_copy_sources() {
    local name names=()
    for name in $_sources; do
        rm -rf "${build:?}/src/$name"
        [[ ! -e $top/$name ]] || names+=("$name")
    done
    mkdir -p "$build/src"
    # With times, so that make sees what changed; without what a build in the source tree leaves there.
    tar -C "$top" --exclude=__pycache__ --exclude=fence_aws_vpc_net --exclude='*.8' --exclude='*.log' --exclude='*.trs' \
        -cf - "${names[@]}" | tar -C "$build/src" -xf -
}

_build_agent() {
    _copy_sources
    cd "$build/src"
    if [[ ! configure -nt configure.ac || ! Makefile.in -nt Makefile.am ]]; then
        autoreconf -i
        touch configure Makefile.in   # autoreconf leaves alone what would not change
    fi
    mkdir -p "$build/tree"
    cd "$build/tree"
    if [[ ! Makefile -nt ../src/configure || ! Makefile -nt ../src/Makefile.in ]] ||
        ! grep -qxF "prefix = $build/install" Makefile; then   # the checkout has moved
        ../src/configure PYTHON="$PYTHON" --prefix="$build/install"
    fi
    make
    rm -rf "$build/install"   # what is no longer installed must not be found
    make install
}

# One at a time, and only if something has changed: what is installed may be in use, as by ./tests/check beside ./tests/demo.
build_agent() {
    local key
    mkdir -p "$build/log"
    exec {_lock}>"$build/lock"
    flock "$_lock"
    key=$(_build_key)
    # A shell of its own, so that -e ends it at the first failure also where the caller asks for its result.
    if _fresh "$build/install" "$key"; then
        :
    elif bash -euo pipefail -c 'source "$1" && _build_agent' bash "$top/tests/setup.sh" >"$build/log/build" 2>&1; then
        _complete "$build/install" "$key"
    else
        tail -n 30 "$build/log/build" >&2
        die "could not build the agent: build/log/build"
    fi
    exec {_lock}>&-
}

### Programs that end with their caller

# contain COMMAND…: in the background, as $contained, and as a process group of its own, in which no signal is ignored. As
# root, in mount and process namespaces of its own too, which end with this shell, even by SIGKILL. Process 1 is a shell,
# since that waits for what other processes leave behind.
contain() {
    local namespaces=(env --default-signal=HUP,INT,QUIT)
    (($(id -u) != 0)) || namespaces+=(setpriv --pdeathsig KILL
        unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash -c '"$@"; exit' contained)
    set -m
    "${namespaces[@]}" "$@" &
    contained=$!
    set +m
}

# wait_contained SECONDS: returns its exit code; 124 if it was stopped since its time was over.
wait_contained() {
    local status=0 end=$((SECONDS + $1))
    while kill -0 "$contained" 2>/dev/null; do
        ((SECONDS < end)) || { stop_contained; return 124; }
        sleep 0.2
    done
    wait "$contained" || status=$?
    contained=
    return "$status"
}

# SIGINT, for those that clean up; 20 seconds later all are killed.
stop_contained() {
    local children end=$((SECONDS + 20))
    [[ -n ${contained-} ]] || return 0
    kill -INT -- "-$contained" 2>/dev/null || true
    while kill -0 "$contained" 2>/dev/null && ((SECONDS < end)); do
        sleep 0.2
    done
    if (($(id -u) != 0)); then
        kill -KILL -- "-$contained"
    else   # with its first process, the kernel ends all others
        children=$(cat "/proc/$contained/task/$contained/children")
        kill -KILL "${children%% *}"
    fi 2>/dev/null || true
    wait "$contained" 2>/dev/null || true   # until all of them have ended
    contained=
}
