
from serving_desk import *

import json, time, asyncio, numpy as np
import redis.asyncio as ra
def test_bench(desk, worker_process, redis_port):
    desk.permit(); desk.deploy(1, live=1)
    t0=time.monotonic(); worker_process.start()
    eventually(worker_process.face.ready); print("HTTP ready", time.monotonic()-t0)
    eventually(lambda: worker_process.face.serving() and worker_process.face.ready() and worker_process.face.leads()); print("leads", time.monotonic()-t0)
    t=last_minute()-4*MINUTE_US
    n=600
    rows=desk.rows(n)
    for i in range(n):
        desk.feed(["BTC_USDT"], t+i*1000, rows[i:i+1]); time.sleep(0.003)
    eventually(lambda: len(desk.signals())==n)
    lat=[json.loads(f[b"row"])["latency_us"] for _,f in desk.redis.xrange("atlas:outbox:predictions")]
    print("N",len(lat),"p50",np.percentile(lat,[5,50,90,99]))
    # raw
    eng=trained(1).engine
    x=rows[:1].astype(np.float32)
    ts=[]
    for _ in range(3000):
        s=time.perf_counter_ns(); eng.booster_.inplace_predict(x,validate_features=False); ts.append((time.perf_counter_ns()-s)/1e3)
    print("predict", np.percentile(ts,50))
    async def raw():
        r=ra.Redis(port=redis_port); ts=[]
        from atlas.online.wire import entity_key,key_prefix,feature_field
        k=entity_key(key_prefix(["symbol"]),"BTC_USDT","atlas"); f=[feature_field(PLAN.view,x) for x in PLAN.features]
        for _ in range(3000):
            s=time.perf_counter_ns(); await r.hmget(k,f); ts.append((time.perf_counter_ns()-s)/1e3)
        print("hmget", np.percentile(ts,50)); await r.aclose()
    uvloop.run(raw())
    from pathlib import Path; print([l for l in Path(f"/proc/{worker_process.process.pid}/status").read_text().splitlines() if "VmRSS" in l])
    s=time.monotonic(); print(worker_process.stop(), "stop", time.monotonic()-s); print(worker_process.log.read_text())
