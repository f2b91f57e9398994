# For the scripts beside it: machines on which the commands of a page run as an operator types them. A machine is an overlay
# of this machine's files with users, owners and modes of its own. `sudo` gives the user's rights, as the real one does.
# `systemctl` starts what the installed unit names, under its user and umask; the rest of the unit is for systemd itself.

# Makes a machine: an operator has an account, a clone of the repository, and a build.
# machine FOLDER BINARY REPOSITORY: the machine's files are in FOLDER/root.
machine() {
    local tmp=$1 binary=$2 repository=$3 root=$1/root home=$1/root/home/sysop
    mkdir -p "$tmp/upper" "$tmp/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$tmp/upper,workdir=$tmp/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    chroot "$root" userdel recado 2> /dev/null || true
    chroot "$root" useradd --create-home --user-group --shell /bin/bash sysop
    mkdir -p "$home/.cache/recado/target/release" "$home/recado"
    cp "$binary" "$home/.cache/recado/target/release/recado"
    cp -r "$repository/deploy" "$home/recado/"
    printf '#!/bin/sh\n' > "$home/recado/dev"
    chmod 755 "$home/recado/dev"
    # A command that fails ends the commands, and so does a status of 400 or more.
    printf 'fail\nsilent\nshow-error\n' > "$home/.curlrc"
    chroot "$root" chown -R sysop: /home/sysop
    rm -rf "$root/var/lib/recado" "$root/etc/recado" "$root/var/backups/recado" "$root/etc/systemd/system/recado.service"
    tools "$root"
}

tools() {
    local root=$1
    # A shell that keeps the rights of its owner, for sudo.
    cp /bin/bash "$root/usr/lib/root-shell"
    chmod 4755 "$root/usr/lib/root-shell"
    cat > "$root/usr/local/bin/sudo" <<'END'
#!/usr/lib/root-shell -p
user=root
if [ "$1" = -u ]; then user=$2; shift 2; fi
exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- env "HOME=$(getent passwd "$user" | cut -d: -f6)" "$@"
END
    cat > "$root/usr/local/bin/systemctl" <<'END'
#!/bin/bash
set -eu
[ "$(id -u)" = 0 ] || { echo "systemctl: only root may do that" >&2; exit 1; }
unit=/etc/systemd/system/recado.service pid=/run/recado.pid
setting() { sed -n "s/^$1=//p" "$unit" | tail -1; }
start() {
    variables=$(setting EnvironmentFile)
    [ ! -e "${variables#-}" ] || { set -a; . "${variables#-}"; set +a; }
    umask "$(setting UMask)"
    user=$(setting User)
    setsid setpriv --reuid "$user" --regid "$(setting Group)" --init-groups -- $(setting ExecStart) \
        < /dev/null >> /run/recado.log 2>&1 &
    echo $! > "$pid"
    for _ in $(seq 300); do
        ! curl --silent --fail "http://${RECADO_LISTEN:-127.0.0.1:8080}/health/ready" > /dev/null || return 0
        kill -0 "$(cat "$pid")" || break
        sleep 0.1
    done
    cat /run/recado.log >&2
    return 1
}
stop() {
    [ -e "$pid" ] || return 0
    kill "$(cat "$pid")" 2> /dev/null || true
    while kill -0 "$(cat "$pid")" 2> /dev/null; do sleep 0.1; done
    rm "$pid"
}
arguments=$*
case $arguments in
    daemon-reload | "enable recado" | enable\ --now\ *.timer) ;;
    "enable --now recado" | "start recado") start ;;
    "stop recado") stop ;;
    "restart recado") stop; start ;;
    *) echo "systemctl: not known here: $arguments" >&2; exit 1 ;;
esac
END
    printf '#!/bin/sh\ncat /run/recado.log\n' > "$root/usr/local/bin/journalctl"
    chmod 755 "$root/usr/local/bin/"{sudo,systemctl,journalctl}
}

# Runs the commands in a file as the operator of a machine, until one fails. Without a terminal: what a command asks comes from
# standard input.
# type_commands FOLDER FILE
type_commands() {
    local root=$1/root
    cp "$2" "$root/home/sysop/commands"
    chmod 644 "$root/home/sysop/commands"
    setsid --wait chroot "$root" setpriv --reuid sysop --regid sysop --init-groups -- \
        env -i HOME=/home/sysop LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin NO_PROXY='*' no_proxy='*' \
        PGHOST=/var/run/postgresql bash -eu -o pipefail -c 'cd ~/recado; set -x; . ~/commands'
}
