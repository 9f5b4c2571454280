// Boots a machine and runs a command in it: node docs/examples/run-command.mjs uname -a
import { createMachine, findGuest } from 'tsvm';

const guest = await findGuest();
const machine = await createMachine({
  ...guest,
  memoryBytes: 64 * 2 ** 20,
  command: { argv: process.argv.length > 2 ? process.argv.slice(2) : ['uname', '-sr'], tty: false },
});
machine.on('console', (bytes) => process.stdout.write(bytes));
await machine.start();
const end = await machine.wait();
process.exitCode = end.kind === 'power-off' ? end.exitStatus : 1;
