// socket.io with its Redis adapter, as its documentation shows; every user is in a room of their own.
const http = require("http");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

async function main() {
  const publisher = createClient({ url: process.env.BENCH_REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const server = http.createServer((request, response) => {
    if (request.method !== "POST") return;
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const text = Buffer.concat(parts).toString();
      const user = request.url.startsWith("/to/") ? decodeURIComponent(request.url.slice(4)) : null;
      (user === null ? io : io.to(user)).emit("event", text);
      response.writeHead(200, { "Content-Length": "0" });
      response.end();
    });
  });
  const io = new Server(server, { adapter: createAdapter(publisher, subscriber), serveClient: false });
  io.on("connection", (socket) => socket.join(socket.handshake.query.user));
  server.listen({ port: Number(process.env.BENCH_PORT), host: "127.0.0.1", backlog: 4096 });
}

main();
