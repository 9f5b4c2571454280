/** `tsvm template`: the booted machines that `tsvm run` starts from. */
import { Command } from 'commander';
import { TemplateStore } from '../../template/store.js';
import { formatBytes } from '../../util/units.js';
import { parseCount } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm template list --json
  tsvm template rm 0123456789abcdef
  tsvm template prune             keep the eight that were used last
  tsvm template prune --keep 0    remove all`;

export function templateCommand(): Command {
  const template = new Command('template')
    .summary('list and remove the templates that `tsvm run` made')
    .description(
      'Templates are kept in $TSVM_TEMPLATE_DIR, or $XDG_CACHE_HOME/tsvm/templates, or ~/.cache/tsvm/templates.',
    )
    .addHelpText('after', EXAMPLES);
  template
    .command('list')
    .description('list them, the last used first')
    .option('--json', 'print JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (options: { json?: boolean }) => {
      const store = new TemplateStore();
      const entries = await store.list();
      if (options.json === true) {
        process.stdout.write(`${JSON.stringify(entries, undefined, 2)}\n`);
        return;
      }
      if (entries.length === 0) process.stdout.write(`no template in ${store.directory}\n`);
      for (const { key, bytes, lastUsedMs } of entries)
        process.stdout.write(`${key}  ${formatBytes(bytes)}  used ${new Date(lastUsedMs).toISOString()}\n`);
    });
  template
    .command('rm')
    .description('remove templates; machines that run from them go on')
    .argument('<key...>', 'as `tsvm template list` shows them')
    .addHelpText('after', EXAMPLES)
    .action(async (keys: string[]) => {
      const store = new TemplateStore();
      for (const key of keys) await store.remove(key);
    });
  template
    .command('prune')
    .description('remove those that were used longest ago')
    .option('--keep <n>', 'how many to keep', '8')
    .addHelpText('after', EXAMPLES)
    .action(async (options: { keep: string }) => {
      const most = parseCount('--keep', options.keep, 0, 1_000_000);
      for (const key of await new TemplateStore().prune({ most })) process.stdout.write(`removed ${key}\n`);
    });
  return template;
}
