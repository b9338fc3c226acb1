"""Celery tasks with an ETA: `work` runs them, `add COUNT FIRST_MS STEP_MS` sets them."""

import datetime
import os
import sys
import time

import celery
import redis

URL = os.environ["BENCH_REDIS_URL"]
app = celery.Celery("celery_app", broker=URL)
app.conf.task_ignore_result = True
app.conf.broker_transport_options = {"visibility_timeout": 86_400}
notes = redis.Redis.from_url(URL)


@app.task(name="tick")
def tick(due):
    notes.rpush("late", str(time.time() * 1000 - due))


def add(count, first, step):
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            due = first + number * step
            moment = datetime.datetime.fromtimestamp(due / 1000, datetime.UTC)
            tick.apply_async((due,), eta=moment, producer=producer)


what, *numbers = sys.argv[1:]
if what == "work":
    app.worker_main(
        ["worker", "--concurrency", "2", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"]
    )
else:
    add(*map(int, numbers))
