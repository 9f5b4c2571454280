// What several examples need: the default guest, booted to where it waits for a command.
import { createMachine, findGuest } from 'tsvm';

export async function bootMachine(more, index = 0) {
  const guest = await findGuest();
  const machine = await createMachine({
    ...guest,
    ...more,
  });
  const ready = new Promise((resolve, reject) => {
    machine.on('mark', ({ name }) => name === 'ready' && resolve());
    machine.on('end', (end) => reject(new Error(`machine ${index} ended: ${JSON.stringify(end)}`)));
  });
  ready.catch(() => {}); // told to whoever waits
  await machine.start();
  await ready;
  return machine;
}

export async function done(...machines) {
  await Promise.all(machines.map((machine) => machine.kill()));
}
