// Delayed jobs of BullMQ: `work` runs them, `add COUNT FIRST_MS STEP_MS` sets them.
const { Queue, Worker } = require("bullmq");
const { Redis } = require("ioredis");

const url = new URL(process.env.BENCH_REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), db: Number(url.pathname.slice(1)), maxRetriesPerRequest: null };
const queue = new Queue("bench", { connection });

async function add(count, first, step) {
  for (let at = 0; at < count; at += 1000) {
    const jobs = [];
    for (let n = at; n < Math.min(at + 1000, count); n++) {
      const due = first + n * step;
      jobs.push({ name: "tick", data: { due }, opts: { delay: due - Date.now(), removeOnComplete: true } });
    }
    await queue.addBulk(jobs);
  }
  process.exit(0);
}

function work() {
  const notes = new Redis(process.env.BENCH_REDIS_URL);
  const note = (job) => notes.rpush("late", String(Date.now() - job.data.due));
  new Worker("bench", note, { connection, concurrency: 64 });
}

const [what, ...numbers] = process.argv.slice(2);
if (what === "work") work();
else add(...numbers.map(Number));
