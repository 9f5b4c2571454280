/** `tsvm cp`: files into a machine or container that runs, and out of it. */
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { TsvmError } from '../../errors.js';
import type { CopyOptions } from '../../sandbox/copy-in.js';
import { isAbort } from '../../util/abort.js';
import { formatBytes } from '../../util/units.js';
import { complain } from '../complain.js';
import { agentOfNamed } from '../session/named-agent.js';

const EXAMPLES = `
Examples:
  tsvm cp job.py box:/srv/                    into the directory /srv
  tsvm cp ./app box:/srv/app                  a directory, as /srv/app; into it if that is there
  tsvm cp ./app/. box:/srv/app                what is in the directory
  tsvm cp box:/var/log/syslog .               out of it
  tar -c src | tsvm cp - box:/srv             an archive is unpacked
  tsvm cp box:/etc - | tar -t                 and packed

A path on the host that has a : in it begins with / or ./ . Owners are the superuser in the machine, and you on the host, but
with -a. On the host no devices, pipes or setuid files are made.`;

/** A copy that takes longer than this says how far it has come. */
const QUIET_MS = 1000;

interface CpOptions {
  archive?: boolean;
  followLink?: boolean;
}

/** One side of a copy: a path of the host, `-`, or a path in a machine or container. */
interface Side {
  readonly name?: string;
  readonly path: string;
}

export function cpCommand(): Command {
  return new Command('cp')
    .summary('copy files into a machine or container that runs, or out of it')
    .description(
      'Copy files or directories between this host and a machine or container that runs and has a name.',
    )
    .usage('[options] <source> <name>:<path>, or <name>:<path> <destination>')
    .argument('<source>', 'path, NAME:PATH, or - for a tar archive on standard input')
    .argument('<destination>', 'NAME:PATH, path, or - for a tar archive on standard output')
    .option('-a, --archive', 'keep owners and times')
    .option('-L, --follow-link', 'copy what a symbolic link leads to')
    .addHelpText('after', EXAMPLES)
    .action(async (source: string, destination: string, options: CpOptions) => {
      process.exitCode = await cp(sideOf(source), sideOf(destination), options);
    });
}

function sideOf(text: string): Side {
  const [, name, path] = /^([^:/.][^:/]*):(.*)$/s.exec(text) ?? [];
  return name === undefined || path === undefined ? { path: text } : { name, path: path === '' ? '/' : path };
}

async function cp(from: Side, to: Side, { archive, followLink }: CpOptions): Promise<number> {
  const refuse = (why: string): Error =>
    new TsvmError('TSVM_USAGE', why, { hint: 'tsvm cp PATH NAME:PATH, or tsvm cp NAME:PATH PATH' });
  if (from.name !== undefined && to.name !== undefined)
    throw refuse('cp: both sides are in a machine or container');
  const name = from.name ?? to.name;
  if (name === undefined) throw refuse('cp: no side is in a machine or container');
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const progress = showProgress();
  const options: CopyOptions = {
    archive: archive === true,
    follow: followLink === true,
    signal: stop.signal,
    onBytes: progress.onBytes,
  };
  try {
    await using agent = agentOfNamed(name);
    if (from.name === undefined) {
      const { copyIn, unpackIn } = await import('../../sandbox/copy-in.js');
      if (from.path === '-') await unpackIn(agent, process.stdin, to.path, options);
      else await copyIn(agent, from.path, to.path, options);
    } else {
      const { copyOut, packOut } = await import('../../sandbox/copy-out.js');
      if (to.path === '-') await pipeline(packOut(agent, from.path, options), process.stdout, { end: false });
      else {
        const { leftOut } = await copyOut(agent, from.path, to.path, options);
        if (leftOut > 0) complain(`tsvm: devices and pipes left out: ${leftOut}`);
      }
    }
    return EXIT_CODES.ok;
  } catch (error) {
    if (isAbort(error, stop.signal)) return EXIT_CODES.interrupted;
    throw error;
  } finally {
    progress.end();
    process.stdin.destroy();
    process.removeListener('SIGINT', interrupt).removeListener('SIGTERM', interrupt);
  }
}

/** Says on a terminal, after a second, how much has been copied. */
function showProgress(): { onBytes(bytes: number): void; end(): void } {
  const { stderr } = process;
  let told = performance.now();
  let shown = false;
  return {
    onBytes(bytes) {
      if (!stderr.isTTY || performance.now() - told < QUIET_MS) return;
      told = performance.now();
      shown = true;
      stderr.write(`\rtsvm: copied ${formatBytes(bytes)}\u001b[K`);
    },
    end() {
      if (shown) stderr.write('\n');
    },
  };
}
