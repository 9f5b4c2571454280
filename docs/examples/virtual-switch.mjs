// Ten machines on one virtual switch, without any privilege: each has an address, and the first asks all the others.
import { NetSwitch, netAt } from 'tsvm';
import { bootMachine, done } from './support.mjs';

const COUNT = Number(process.argv[2] ?? 10);
const hub = new NetSwitch();
const machines = await Promise.all(
  Array.from({ length: COUNT }, (_, i) =>
    bootMachine({ memoryBytes: 64 * 2 ** 20, channel: true, devices: [netAt(hub)] }, i),
  ),
);

// A command to each: an address, and a shell that waits.
const run = async (machine, script) => {
  machine.channel.send({ argv: ['sh', '-c', script] });
  const said = [];
  machine.channel.stdout.on('data', (bytes) => said.push(bytes));
  const status = await machine.channel.exited;
  return { status, text: Buffer.concat(said).toString() };
};
const up = (i) => `ip link set eth0 up; ip addr add 10.0.0.${i + 1}/24 dev eth0`;
for (const [i, machine] of machines.entries())
  if (i > 0) void run(machine, `${up(i)}; echo up; exec sleep 1000`);
const targets = machines.slice(1).map((_, i) => `10.0.0.${i + 2}`);
const asked = targets.map(
  (address) => `until ping -c 1 -W 1 ${address} > /dev/null; do :; done; echo ${address} answers`,
);
const { text } = await run(machines[0], `${up(0)}; ${asked.join('; ')}`);
process.stdout.write(text);
await done(...machines);
