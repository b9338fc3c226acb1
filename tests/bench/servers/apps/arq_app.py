"""Deferred jobs of ARQ: `work` runs them, `add COUNT FIRST_MS STEP_MS` sets them."""

import asyncio
import datetime
import os
import sys
import time

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_REDIS_URL"])


async def tick(context, due):
    await context["redis"].rpush("late", str(time.time() * 1000 - due))


async def add(count, first, step):
    redis = await create_pool(SETTINGS)
    for start in range(0, count, 100):
        jobs = []
        for number in range(start, min(start + 100, count)):
            due = first + number * step
            moment = datetime.datetime.fromtimestamp(due / 1000, datetime.UTC)
            jobs.append(redis.enqueue_job("tick", due, _defer_until=moment))
        await asyncio.gather(*jobs)


what, *numbers = sys.argv[1:]
if what == "work":
    asyncio.set_event_loop(asyncio.new_event_loop())
    Worker(functions=[tick], redis_settings=SETTINGS, max_jobs=64, keep_result=0).run()
else:
    asyncio.run(add(*map(int, numbers)))
