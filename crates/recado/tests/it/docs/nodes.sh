#!/bin/bash
# Runs the commands of docs/nodes.md on three fresh machines, in namespaces of their own: two nodes on one database, and a
# server that moves to PostgreSQL. PostgreSQL is at db1; the standby db2 is down.
# The arguments: a temporary directory, the binary, the repository, and a directory with the blocks of the page: 1, 2, … in
# their order.
set -eu -o pipefail
tmp=$1 binary=$2 repository=$3 blocks=$4
. "$(dirname "$0")/machine.sh"
mount -t tmpfs -o mode=755 tmpfs "$tmp"
ip link set lo up
for host in 1 5 6 7; do ip address add 10.0.0.$host/24 dev lo; done

# The certificate of the database, and its authority.
pki=$tmp/pki
mkdir "$pki"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout "$pki/ca.key" -out "$pki/ca.crt" 2> /dev/null
openssl req -newkey rsa:2048 -nodes -subj /CN=db1 -keyout "$pki/db.key" -out "$pki/db.csr" 2> /dev/null
openssl x509 -req -in "$pki/db.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 2 -out "$pki/db.crt" \
    -extfile <(echo 'subjectAltName=DNS:db1,DNS:db2') 2> /dev/null

# node NAME ADDRESS DATABASE: the service, installed as docs/operations.md says, with the variables of step 2.
node() {
    local at=$tmp/$1 root=$tmp/$1/root
    mkdir "$at"
    machine "$at" "$binary" "$repository"
    printf '127.0.0.1 localhost\n10.0.0.1 db1\n10.0.0.2 db2\n' > "$root/etc/hosts"
    cp "$pki/ca.crt" "$root/usr/local/share/ca-certificates/recado-test.crt"
    chroot "$root" update-ca-certificates > /dev/null 2>&1
    install -m 755 "$binary" "$root/usr/local/bin/recado"
    chroot "$root" useradd --system --home-dir /var/lib/recado --shell /usr/sbin/nologin recado
    chroot "$root" install -d -o recado -g recado -m 700 /var/lib/recado
    mkdir "$root/etc/recado"
    [ -e "$tmp/secret.key" ] || "$binary" secrets new-key > "$tmp/secret.key"
    install -m 640 "$tmp/secret.key" "$root/etc/recado/secret.key"
    sed -e "s/PASSWORD/geheim/; s/node1/$1/; s/10\.0\.0\.5/$2/; s,/recado',/$3'," "$blocks/env" > "$root/etc/recado/recado.env"
    chmod 640 "$root/etc/recado/recado.env"
    chroot "$root" chown root:recado /etc/recado/secret.key /etc/recado/recado.env
    install -m 644 "$repository/deploy/systemd/recado.service" "$root/etc/systemd/system/"
}

failed() {
    for name in node1 node2 moved; do echo "== $name" >&2; cat "$tmp/$name/root/run/recado.log" >&2 || true; done
    cat "$tmp/postgresql.log" >&2 || true
}
trap 'status=$?; [ $status = 0 ] || failed; exit $status' EXIT

# says NAME TEXT: waits until a node has logged this.
says() {
    for _ in $(seq 600); do ! grep -q "$2" "$tmp/$1/root/run/recado.log" || return 0; sleep 0.1; done
    echo "$1 did not log: $2" >&2
    return 1
}

node node1 10.0.0.5 recado
node node2 10.0.0.6 recado
node moved 10.0.0.7 moved

# PostgreSQL runs on the machine of node1, where its commands are typed.
db=$tmp/node1/root
programs=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
as_postgres() { chroot "$db" setpriv --reuid postgres --regid postgres --init-groups -- "$@"; }
mkdir -p "$db/var/run/postgresql" "$db/srv/postgresql"
cp "$pki/db.crt" "$pki/db.key" "$db/srv/postgresql/"
chmod 600 "$db/srv/postgresql/db.key"
chroot "$db" chown -R postgres: /srv/postgresql /var/run/postgresql
as_postgres "$programs/initdb" --pgdata /srv/postgresql/data --auth-local peer --auth-host scram-sha-256 --no-sync > /dev/null
printf 'hostssl recado,moved recado 10.0.0.0/24 scram-sha-256\n' >> "$db/srv/postgresql/data/pg_hba.conf"
as_postgres "$programs/postgres" -D /srv/postgresql/data -k /var/run/postgresql -c listen_addresses=10.0.0.1 -c fsync=off \
    -c ssl=on -c ssl_cert_file=/srv/postgresql/db.crt -c ssl_key_file=/srv/postgresql/db.key > "$tmp/postgresql.log" 2>&1 &
for _ in $(seq 300); do
    ! as_postgres "$programs/pg_isready" --quiet --host /var/run/postgresql || break
    sleep 0.1
done

# 1: the database. `createuser` asks twice for the password.
printf 'geheim\ngeheim\n' | type_commands "$tmp/node1" "$blocks/1"
# 3: the tables and the first institution.
type_commands "$tmp/node1" "$blocks/2" < /dev/null
# 4: the nodes. The page shows the address of the first one.
for name in node1 node2; do
    address=10.0.0.$([ $name = node1 ] && echo 5 || echo 6)
    sed "s/10\.0\.0\.5/$address/" "$blocks/3" > "$tmp/commands"
    type_commands "$tmp/$name" "$tmp/commands" < /dev/null
    says $name 'node joined'
done
for _ in $(seq 600); do
    ! cat "$tmp"/node[12]/root/run/recado.log | grep -q 'channels acquired' || break
    sleep 0.1
done
# The commands work on any node.
for name in node1 node2; do type_commands "$tmp/$name" "$blocks/4" < /dev/null | grep -q sandbox; done

# Moving to PostgreSQL: a server with a store of its own, and an empty database.
as_postgres "$programs/createdb" --host /var/run/postgresql --owner recado --template template0 --encoding UTF8 moved
printf 'sudo -u recado recado init --data-dir /var/lib/recado > /dev/null\n' > "$tmp/commands"
cat "$blocks/5" >> "$tmp/commands"
printf 'sudo systemctl start recado\ncurl http://10.0.0.7:8080/health/ready\n' >> "$tmp/commands"
type_commands "$tmp/moved" "$tmp/commands" < /dev/null
says moved 'node joined'
