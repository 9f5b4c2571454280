// A hundred copies of one warm interpreter: the shell has read its functions once, and each copy runs one command.
import { bootMachine, done } from './support.mjs';

const COUNT = Number(process.argv[2] ?? 100);
const parent = await bootMachine({ memoryBytes: 64 * 2 ** 20, channel: true });
await parent.prepareForks(COUNT); // empty virtual machines, ahead of time

const begun = performance.now();
const forks = await parent.fork(COUNT);
console.log(`${COUNT} machines in ${(performance.now() - begun).toFixed(1)} ms`);

const answers = await Promise.all(
  forks.map(async (machine, i) => {
    const { channel } = machine;
    channel.send(
      { argv: ['sh', '-c', `echo $((${i} * ${i}))`] },
      { timeMs: Date.now(), entropy: crypto.getRandomValues(new Uint8Array(32)) },
    );
    channel.stdin.end();
    if (machine.state === 'ready') await machine.start();
    const answer = (await channel.stdout.toArray()).join('').trim();
    await machine.kill();
    return answer;
  }),
);
console.log(`the last one says ${answers.at(-1)}`);
await done(parent);
