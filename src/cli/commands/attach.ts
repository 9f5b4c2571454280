/** `tsvm attach`: a running machine's console on this terminal. */
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { EscapeFilter, rawTerminal } from '../../host/terminal.js';
import { runningMachine } from '../running.js';

const EXAMPLES = `
Examples:
  tsvm attach web                         Ctrl-A d leaves, and the machine goes on; Ctrl-A x ends it
  echo reboot | tsvm attach web           types it; what the machine says meanwhile is shown

The last that the console said is shown first.`;

/** Time after the end of input, for what it brought about. */
const LINGER_MS = 300;

export function attachCommand(): Command {
  return new Command('attach')
    .summary('put a machine’s console on this terminal')
    .argument('<name>', 'of the machine')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string) => {
      process.exitCode = await attach(name);
    });
}

async function attach(name: string): Promise<number> {
  const { machine } = runningMachine(name);
  const { has_terminal: hasTerminal } = await machine.call<{ has_terminal: boolean }>('GET', '/tsvm/machine');
  const console_ = await machine.attach();
  const { stdin, stdout } = process;
  // In raw mode a line feed only goes down, which is what a guest's terminal means by it.
  const shown = (bytes: Buffer): Buffer | string =>
    hasTerminal || !stdin.isTTY ? bytes : bytes.toString('latin1').replaceAll('\n', '\r\n');
  const restore = rawTerminal(stdin);
  const filter = new EscapeFilter();
  let left = false;
  const leave = (): void => {
    left = true;
    console_.end();
  };
  const resize = (): void => {
    const body = { columns: stdout.columns, rows: stdout.rows };
    void machine.call('PUT', '/tsvm/console/size', body).catch(() => {}); // it ended
  };
  stdin.on('data', (chunk: Buffer) => {
    const bytes = stdin.isTTY
      ? filter.push(chunk, (command) => {
          if (command === 'detach') leave();
          else if (command === 'exit') void machine.kill().catch(() => {});
          else
            process.stderr.write(
              '\r\nCtrl-A d leaves; Ctrl-A x ends the machine; Ctrl-A Ctrl-A is Ctrl-A\r\n',
            );
        })
      : chunk;
    if (bytes.length > 0 && !console_.write(bytes)) {
      stdin.pause();
      console_.once('drain', () => stdin.resume());
    }
  });
  stdin.once('end', () => setTimeout(leave, LINGER_MS));
  if (stdout.isTTY) {
    resize();
    stdout.on('resize', resize);
  }
  stdout.on('error', leave); // nobody reads any more
  console_.on('data', (bytes: Buffer) => {
    if (stdout.write(shown(bytes), 'latin1')) return;
    console_.pause();
    stdout.once('drain', () => console_.resume());
  });
  console_.on('error', () => {}); // told by its end
  await new Promise((resolve) => console_.once('close', resolve));
  restore();
  stdin.destroy();
  if (stdin.isTTY) process.stderr.write(left ? `\nleft ${name}, which goes on\n` : `\n${name} has ended\n`);
  return EXIT_CODES.ok;
}
