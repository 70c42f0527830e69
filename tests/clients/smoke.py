"""Uses a server the way programs with redis-py do: smoke.py PORT. Ends with an error where something is not as it is with Redis.

Run by tests/it/clients.rs; also works by hand against a redis-server.
"""

import sys
import threading
import time

import redis

PORT = int(sys.argv[1])


def connect(**options):
    return redis.Redis(port=PORT, decode_responses=True, **options)


def strings(r):
    assert r.set("s", "1", ex=100) is True
    assert r.get("s") == "1"
    assert r.incrby("s", 41) == 42
    assert 0 < r.ttl("s") <= 100
    assert r.set("s", "x", nx=True) is None
    assert r.getrange("s", 0, 0) == "4"
    assert r.mset({"a": 1, "b": 2}) is True
    assert r.mget("a", "b", "none") == ["1", "2", None]
    assert r.incrbyfloat("f", 1.5) == 1.5
    assert redis.Redis(port=PORT).get("a") == b"1"


def collections(r):
    assert r.rpush("l", "a", "b", "c") == 3
    assert r.lrange("l", 0, -1) == ["a", "b", "c"]
    assert r.lmpop(1, "l", direction="LEFT", count=2) == ["l", ["a", "b"]]
    assert r.hset("h", mapping={"f": "1", "g": "2"}) == 2
    assert r.hgetall("h") == {"f": "1", "g": "2"}
    assert r.hincrby("h", "f", 4) == 5
    if tuple(map(int, r.info()["redis_version"].split(".")[:2])) >= (7, 4):
        assert r.hexpire("h", 100, "f") == [1]
        assert r.httl("h", "f", "none") in ([100, -2], [99, -2])
    assert r.sadd("t", "x", "y") == 2
    assert set(r.smembers("t")) == {"x", "y"}
    assert r.zadd("z", {"one": 1, "two": 2.5}) == 2
    assert r.zscore("z", "two") == 2.5
    # RESP3 answers with pairs as lists, RESP2 as tuples.
    assert [tuple(pair) for pair in r.zrange("z", 0, -1, withscores=True)] == [("one", 1.0), ("two", 2.5)]
    assert r.zrank("z", "two") == 1
    assert r.geoadd("geo", (13.361389, 38.115556, "Palermo")) == 1
    assert r.geosearch("geo", longitude=13, latitude=38, radius=100, unit="km") == ["Palermo"]
    assert r.pfadd("hll", "a", "b") == 1
    assert r.pfcount("hll") == 2
    assert sorted(r.scan_iter(match="?", count=2)) == ["a", "b", "f", "h", "l", "s", "t", "z"]
    assert dict(r.hscan_iter("h")) == {"f": "5", "g": "2"}


def streams(r):
    first = r.xadd("x", {"n": 1})
    r.xadd("x", {"n": 2})
    assert r.xlen("x") == 2
    assert r.xgroup_create("x", "g", id="0") is True
    read = r.xreadgroup("g", "c", {"x": ">"}, count=1)
    entries = read["x"][0] if isinstance(read, dict) else read[0][1]
    assert entries[0][0] == first and entries[0][1] == {"n": "1"}
    assert r.xpending("x", "g")["pending"] == 1
    assert r.xack("x", "g", first) == 1
    assert r.xinfo_groups("x")[0]["name"] == "g"
    assert r.xinfo_stream("x")["length"] == 2


def transactions(r):
    with r.pipeline(transaction=True) as pipe:
        assert pipe.set("p", 1).incr("p").get("p").execute() == [True, 2, "2"]
    with r.pipeline() as pipe:
        pipe.watch("p")
        r.set("p", "changed")
        pipe.multi()
        pipe.set("p", "lost")
        try:
            pipe.execute()
            raise AssertionError("a watched key changed and the transaction ran")
        except redis.WatchError:
            pass
    try:
        r.lpush("p", "x")
        raise AssertionError("a string took a push")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error


def messages(r):
    listener = connect().pubsub()
    listener.subscribe("news")
    listener.psubscribe("n*")
    assert [listener.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
    assert r.publish("news", "hello") == 2
    kinds = sorted(listener.get_message(timeout=5)["type"] for _ in range(2))
    assert kinds == ["message", "pmessage"], kinds
    listener.close()


def blocking(r):
    results = []
    waiting = [threading.Thread(target=lambda: results.append(connect().blpop("queue", timeout=10))) for _ in range(20)]
    for thread in waiting:
        thread.start()
    deadline = time.monotonic() + 10
    while int(r.info("clients")["blocked_clients"]) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    r.rpush("queue", *range(20))
    for thread in waiting:
        thread.join()
    assert sorted(int(value) for _, value in results) == list(range(20)), results
    assert r.blpop("queue", timeout=0.05) is None
    assert r.brpop("queue", timeout=0.05) is None


def server(r):
    assert r.ping() is True
    assert r.info()["redis_version"].startswith("7.")
    assert r.client_setname("smoke") is True
    assert r.client_getname() == "smoke"
    assert any(client["name"] == "smoke" and int(client["id"]) == r.client_id() for client in r.client_list())
    assert r.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert r.command_count() > 200
    assert r.dbsize() > 0
    other = connect(db=3, client_name="other")
    other.set("only here", 1)
    assert r.exists("only here") == 0
    assert r.memory_usage("s") > 0


def main():
    for protocol in (None, 2, 3):
        options = {} if protocol is None else {"protocol": protocol}
        # One connection, so that what is set on it is found again.
        r = connect(single_connection_client=True, **options)
        r.flushall()
        for part in (strings, collections, streams, transactions, messages, blocking, server):
            try:
                part(r)
            except Exception:
                print(f"{part.__name__}, protocol {protocol or 'as the client likes'}")
                raise
    print(f"redis-py {redis.__version__}: all well")


main()
