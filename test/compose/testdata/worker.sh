# Makes an order every now and then, and tells the cache how many there are.
sql() { psql -qAt -h database -U postgres -c "$1"; }
sql "create table if not exists orders (id serial primary key, at timestamptz default now())" || exit 1
while :; do
	sql "insert into orders default values" || exit 1
	n=$(sql "select count(*) from orders") || exit 1
	printf 'SET orders %s\r\nQUIT\r\n' "$n" | nc cache 6379 >/dev/null || exit 1
	echo "order $n"
	sleep 0.3
done
