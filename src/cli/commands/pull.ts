/** `tsvm pull`: images from registries. */
import { Command } from 'commander';
import { TsvmError } from '../../errors.js';
import { shortReference } from '../../image/reference.js';
import { complain } from '../complain.js';
import { openRegistries, pullImage } from '../session/pull-image.js';
import { StopSignals } from '../session/stop-signals.js';

const EXAMPLES = `
Examples:
  tsvm pull debian:12                        docker.io/library/debian:12
  tsvm pull quay.io/podman/hello
  tsvm pull debian@sha256:0123...            that and nothing else
  tsvm pull --json debian:12 | jq .digest

Credentials are those of podman login and docker login. Mirrors, plain HTTP and certificates of one's own: docs/images.md.`;

interface PullFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly platform: string;
}

export function pullCommand(): Command {
  return new Command('pull')
    .summary('fetch an image from a registry')
    .description(
      'What came is kept in $TSVM_IMAGE_DIR, or $XDG_CACHE_HOME/tsvm/images, or ~/.cache/tsvm/images. A pull that is ended goes on next time.',
    )
    .argument('<name>', '[REGISTRY/]NAME[:TAG][@sha256:DIGEST]')
    .option('-q, --quiet', 'print the digest alone, and no progress')
    .option('--json', 'print JSON')
    .option('--platform <platform>', 'linux/amd64, or with the variant of a newer processor', 'linux/amd64')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, flags: PullFlags) => {
      const { parsePlatform } = await import('../../image/oci/platform.js');
      const level = parsePlatform(flags.platform);
      using registries = await openRegistries();
      const reference = registries.parse(name);
      using signals = StopSignals.ofMachine();
      const { signal } = signals;
      try {
        const image = await pullImage(reference, registries, { level, signal, quiet: flags.quiet });
        const { digest, manifest, layers } = image;
        const whole = shortReference({ ...reference, digest });
        if (flags.json === true) {
          const facts = { name: shortReference(reference), digest, manifest: manifest.digest, layers };
          process.stdout.write(`${JSON.stringify(facts, undefined, 2)}\n`);
        } else process.stdout.write(`${flags.quiet === true ? digest : whole}\n`);
      } catch (error) {
        if (signals.exitCode === undefined || error instanceof TsvmError) throw error;
        complain('tsvm: ended; the same command goes on with what came');
        process.exitCode = signals.exitCode;
      }
    });
}
