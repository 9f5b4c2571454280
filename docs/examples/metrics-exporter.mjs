// Metrics of every machine with a name, for Prometheus: node docs/examples/metrics-exporter.mjs 9100
import { createServer } from 'node:http';
import { connect, listMachines, prometheusText } from 'tsvm';

const server = createServer(async (_request, response) => {
  const metrics = {};
  for (const { name, end } of listMachines()) {
    if (end !== undefined) continue;
    try {
      const stats = await connect(name).stats();
      metrics[name] = { ...stats.metrics, vcpus: [] };
    } catch {
      // It ended meanwhile.
    }
  }
  response.setHeader('Content-Type', 'text/plain; version=0.0.4').end(prometheusText(metrics));
});
server.listen(Number(process.argv[2] ?? 9100), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/metrics`);
});
