/** `tsvm guest`: the guests that tsvm builds itself. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { TsvmError } from '../../errors.js';
import { DEFAULT_GUEST, guestDirectory, listGuests } from '../../guest/store.js';
import { packageFile } from '../../util/package-file.js';

const EXAMPLES = `
Examples:
  tsvm guest build             build the default guest, unless it is there (a few minutes, once)
  tsvm guest build debian      the one on Debian’s own kernel, a package of 71 MB: no kernel is compiled
  tsvm guest build containers  with IPv6, bridges, nftables and TUN: for docker and podman in a machine
  tsvm guest list --json
  tsvm guest clean             remove guests whose recipe has changed since
  tsvm guest clean --all       remove every built guest`;

export function guestCommand(): Command {
  const guest = new Command('guest')
    .summary('build, list and clean the guests that tsvm makes')
    .description(
      'The default guest is a small Linux kernel, an init and a busybox, built from Debian’s sources; the guest debian has Debian’s kernel.',
    )
    .addHelpText('after', EXAMPLES);
  guest
    .command('build')
    .description('build a guest; nothing happens if it is there')
    .argument('[name]', 'which recipe', DEFAULT_GUEST)
    .addHelpText('after', EXAMPLES)
    .action(async (name: string) => {
      process.exitCode = await runRecipes(['all', name]);
    });
  guest
    .command('list')
    .description('list the built guests')
    .option('--json', 'print JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (options: { json?: boolean }) => {
      const guests = await listGuests();
      if (options.json === true) {
        process.stdout.write(`${JSON.stringify(guests, undefined, 2)}\n`);
        return;
      }
      if (guests.length === 0)
        process.stdout.write(`no guest is built in ${guestDirectory()}; build one: tsvm guest build\n`);
      for (const { name, key, version, current, directory } of guests.map(({ build }) => build)) {
        process.stdout.write(
          `${name}  Linux ${version}  ${key}${current ? '' : '  (old recipe)'}  ${directory}\n`,
        );
      }
    });
  guest
    .command('clean')
    .description('remove built guests whose recipe has changed since')
    .option('--all', 'remove all of them')
    .addHelpText('after', EXAMPLES)
    .action(async (options: { all?: boolean }) => {
      process.exitCode = await runRecipes(options.all === true ? ['clean', '--all'] : ['clean']);
    });
  return guest;
}

/** Runs guests/build with this terminal; its exit status. */
function runRecipes(args: readonly string[]): Promise<number> {
  const script = packageFile('guests/build');
  if (!existsSync(script)) {
    throw new TsvmError('TSVM_GUEST_BUILD', `the recipes are missing: ${script}`, { hint: 'reinstall tsvm' });
  }
  return new Promise((resolve, reject) => {
    const child = spawn(script, args, { stdio: 'inherit' });
    child.once('error', (cause) =>
      reject(new TsvmError('TSVM_GUEST_BUILD', `cannot run ${script}: ${cause.message}`, { cause })),
    );
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)));
  });
}
