#!/bin/bash
# Creates what a store needs: a user, a database that it owns, and a user for a standby. Both
# users have the password STORAGE_PASSWORD. The image of PostgreSQL runs this once, on an
# empty volume.
set -eu
psql --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres \
    --set=password="$STORAGE_PASSWORD" <<'SQL'
create role storage login password :'password';
create role replicator login replication password :'password';
create database apps owner storage;
revoke connect on database apps from public;
SQL
# The standby may connect from the other container.
echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
