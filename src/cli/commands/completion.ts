/** `tsvm completion`: a script for the shell, made from the commands themselves. */
import type { Command } from 'commander';
import { Command as CommanderCommand } from 'commander';
import { parseChoice } from '../values.js';

const EXAMPLES = `
Examples:
  source <(tsvm completion bash)
  tsvm completion zsh > "\${fpath[1]}/_tsvm"
  tsvm completion fish > ~/.config/fish/completions/tsvm.fish`;

export function completionCommand(): Command {
  const command = new CommanderCommand('completion')
    .summary('print a completion script for bash, zsh or fish')
    .description('Print a script that teaches the shell tsvm’s commands and options.')
    .argument('<shell>', 'bash, zsh or fish')
    .addHelpText('after', EXAMPLES)
    .action((shell: string) => {
      const root = command.parent ?? command;
      const words = completionWords(root);
      process.stdout.write(RENDERERS[parseChoice('completion', shell, ['bash', 'zsh', 'fish'])](words));
    });
  return command;
}

/** Command path (`tsvm guest`) to the words that may follow: subcommands and options. */
type Words = ReadonlyMap<string, readonly string[]>;

function completionWords(root: Command): Words {
  const words = new Map<string, string[]>();
  const visit = (command: Command, path: string): void => {
    const options = command.options
      .map((option) => option.long ?? option.short ?? '')
      .filter((name) => name !== '');
    words.set(path, [...command.commands.map((child) => child.name()), ...options, '--help']);
    for (const child of command.commands) visit(child, `${path} ${child.name()}`);
  };
  visit(root, 'tsvm');
  return words;
}

const RENDERERS: Readonly<Record<'bash' | 'zsh' | 'fish', (words: Words) => string>> = {
  bash: (words) => `_tsvm() {
  local cur=\${COMP_WORDS[COMP_CWORD]} at=tsvm word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$at $word" in
${[...words.keys()]
  .slice(1)
  .map((path) => `      "${path}") at="${path}" ;;`)
  .join('\n')}
    esac
  done
  case "$at" in
${[...words].map(([path, next]) => `    "${path}") COMPREPLY=($(compgen -W "${next.join(' ')}" -- "$cur")) ;;`).join('\n')}
  esac
  [[ \${#COMPREPLY[@]} -gt 0 && $cur == -* || $cur == "" ]] || COMPREPLY+=($(compgen -f -- "$cur"))
}
complete -o filenames -F _tsvm tsvm
`,
  zsh: (words) => `#compdef tsvm
local at=tsvm word
for word in "\${words[@]:1:$((CURRENT-2))}"; do
  case "$at $word" in
${[...words.keys()]
  .slice(1)
  .map((path) => `    "${path}") at="${path}" ;;`)
  .join('\n')}
  esac
done
case "$at" in
${[...words].map(([path, next]) => `  "${path}") compadd -- ${next.join(' ')} ;;`).join('\n')}
esac
_files
`,
  fish: (words) =>
    `${[...words]
      .flatMap(([path, next]) => {
        const parents = path.split(' ').slice(1);
        const condition =
          parents.length === 0
            ? '__fish_use_subcommand'
            : parents.map((name) => `__fish_seen_subcommand_from ${name}`).join('; and ');
        return next.map((word) =>
          word.startsWith('--')
            ? `complete -c tsvm -n '${condition}' -l ${word.slice(2)}`
            : `complete -c tsvm -n '${condition}' -a ${word}`,
        );
      })
      .join('\n')}\n`,
};
