from serving_desk import *


def test_smoke(desk, worker):
    desk.permit()
    desk.deploy(1, live=1, shadow=2)
    eventually(lambda: worker.leads())
    t = last_minute()
    rows = desk.rows(3)
    desk.feed(["A", "B", "C"], t, rows)
    got = eventually(lambda: len(desk.signals()) == 3 and desk.signals())
    print(got, worker.state(), worker.http.get("/metrics").text)
    print(worker.predict("A", "C").text)
