# Makes the cluster at the first start.
set -e
if ! test -s /data/PG_VERSION; then
	initdb -D /data -A trust -U postgres --no-locale -E UTF8 --no-sync
	echo "host all all all trust" >>/data/pg_hba.conf
fi
exec postgres -D /data -k /tmp -c listen_addresses='*' -c fsync=off
