/** `tsvm doctor`: what this host can do, what is missing, and the command that fixes it. */
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';

const EXAMPLES = `
Examples:
  tsvm doctor                a list for people
  tsvm doctor --json         the same for programs
  tsvm doctor --production   what weakens the wall around a machine here

Exit status: 0 if machines can be made here, 1 if not; nothing else counts. With
--production 0 if every check passed, 1 if one found a weakness or could not be
made.`;

export function doctorCommand(): Command {
  return new Command('doctor')
    .summary('what this host can do, and how to fix what it cannot')
    .description(
      'Look at what machines, images, containers and networks need of this host: KVM, permissions, programs, the kernel’s settings, limits, room, and the default guest.',
    )
    .option('--json', 'print JSON')
    .option('--production', 'look at what of this host weakens the wall around a machine')
    .addHelpText('after', EXAMPLES)
    .action(async ({ json = false, production = false }: { json?: boolean; production?: boolean }) => {
      const { good, data, text } = production ? await examine() : await diagnosed();
      process.stdout.write(json ? `${JSON.stringify(data, undefined, 2)}\n` : text);
      process.exitCode = good ? EXIT_CODES.ok : 1;
    });
}

interface Report {
  readonly good: boolean;
  /** Content of `--json`. */
  readonly data: unknown;
  readonly text: string;
}

async function diagnosed(): Promise<Report> {
  const { diagnose, render } = await import('../doctor/diagnosis.js');
  const data = await diagnose();
  return { good: data.usable, data, text: render(data, process.stdout.columns) };
}

async function examine(): Promise<Report> {
  const [{ examineHost }, { HostTree }, { hostReport, isSolid }] = await Promise.all([
    import('../../host/production/host-checks.js'),
    import('../../host/host-tree.js'),
    import('../host-report.js'),
  ]);
  const checks = examineHost(new HostTree(), new Date());
  const good = isSolid(checks);
  return { good, data: { solid: good, checks }, text: hostReport(checks) };
}
