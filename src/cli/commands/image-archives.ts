/** `tsvm save` and `load`: images as archives, for docker, podman, skopeo and another host. */
import { randomBytes } from 'node:crypto';
import { createWriteStream, renameSync, rmSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { TsvmError } from '../../errors.js';
import { describeFileError } from '../../host/files.js';
import { shortReference } from '../../image/reference.js';
import type { SavedImage } from '../../image/save-image.js';
import { complain } from '../complain.js';
import { lookAtOutputFile } from '../options/output-file.js';
import { StopSignals } from '../session/stop-signals.js';
import { keptImages, unqualifiedName } from './images.js';

const SAVE_EXAMPLES = `
Examples:
  tsvm save -o debian.tar debian:12          docker load -i, podman load -i and tsvm load -i read it
  tsvm save debian:12 app:1 | gzip > two.tar.gz
  tsvm save debian:12 | ssh HOST tsvm load`;

export function saveCommand(): Command {
  return new Command('save')
    .summary('write images to an archive')
    .description(
      'Write images to one archive that docker, podman and skopeo read: an OCI layout that has Docker’s manifest.json as well.',
    )
    .argument('<image...>', 'by name or id')
    .option('-o, --output <file>', 'file to write, in place of standard output')
    .addHelpText('after', SAVE_EXAMPLES)
    .action(async (texts: string[], { output }: { output?: string }) => {
      if (output === undefined && process.stdout.isTTY)
        throw new TsvmError('TSVM_USAGE', 'an archive is not for a terminal', {
          hint: 'give a file: -o FILE',
        });
      if (output !== undefined) lookAtOutputFile(output);
      const kept = await keptImages();
      const images = new Map<string, SavedImage>();
      const unqualified = await unqualifiedName();
      for (const text of texts) {
        const { image, name } = await kept.find(text, unqualified);
        const names = images.get(image.digest)?.names ?? [];
        images.set(image.digest, { image, names: name === undefined ? names : [...names, name] });
      }
      const { saveImages } = await import('../../image/save-image.js');
      // Nothing of them is removed meanwhile.
      using signals = StopSignals.ofMachine();
      const { signal } = signals;
      try {
        await kept.blobs.hold(
          async () => {
            const bytes = Readable.from(saveImages([...images.values()], kept));
            if (output === undefined) await pipeline(bytes, process.stdout, { end: false, signal });
            else await writeWhole(output, bytes, signal);
          },
          { signal, onWait: () => complain('tsvm: waiting for a process that removes images') },
        );
      } catch (error) {
        if (signals.exitCode === undefined) throw error;
        process.exitCode = signals.exitCode;
      }
    });
}

/** Writes a file that has its name when it is whole. An abort leaves nothing of it. */
async function writeWhole(path: string, bytes: Readable, signal: AbortSignal): Promise<void> {
  const unfinished = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    await pipeline(bytes, createWriteStream(unfinished, { flags: 'wx' }), { signal });
    renameSync(unfinished, path);
  } catch (cause) {
    rmSync(unfinished, { force: true });
    if (cause instanceof TsvmError || signal.aborted) throw cause;
    throw new TsvmError('TSVM_FILE', `cannot write ${path}: ${describeFileError(cause)}`, { cause });
  }
}

const LOAD_EXAMPLES = `
Examples:
  docker save debian:12 | tsvm load
  tsvm load -i debian.tar                    an archive of docker, podman, skopeo or tsvm, compressed or not
  tsvm load -i layout                        an OCI layout in a folder`;

export function loadCommand(): Command {
  return new Command('load')
    .summary('keep the images of an archive under their names')
    .description('Keep the images of an archive, or of an OCI layout, under the names that they have there.')
    .option('-i, --input <file>', 'file or folder to read, in place of standard input')
    .option('-q, --quiet', 'print nothing')
    .addHelpText('after', LOAD_EXAMPLES)
    .action(async ({ input, quiet }: { input?: string; quiet?: boolean }) => {
      if (input === undefined && process.stdin.isTTY)
        throw new TsvmError('TSVM_USAGE', 'there is no archive to read', { hint: 'give a file: -i FILE' });
      const { ImageStore } = await import('../../image/store.js');
      const store = new ImageStore();
      const loaded = await (input === undefined ? store.loadStream(process.stdin) : store.load(input));
      for (const { names, digest } of quiet === true ? [] : loaded) {
        for (const name of names) process.stdout.write(`Loaded image: ${shortReference(name)}\n`);
        if (names.length === 0) process.stdout.write(`Loaded image ID: ${digest}\n`);
      }
    });
}
