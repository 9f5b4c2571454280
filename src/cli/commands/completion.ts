/** `tsvm completion`: a script for the shell, which asks `tsvm __complete`. */
import { Command } from 'commander';
import { parseChoice } from '../values.js';

const EXAMPLES = `
Examples:
  source <(tsvm completion bash)
  tsvm completion zsh > "\${fpath[1]}/_tsvm"
  tsvm completion fish > ~/.config/fish/completions/tsvm.fish

Commands, options, their values and the names of machines, containers, images, guests and templates are completed.`;

export function completionCommand(): Command {
  return new Command('completion')
    .summary('print a completion script for bash, zsh or fish')
    .description('Print a script that teaches the shell tsvm’s commands, options and names.')
    .argument('<shell>', 'bash, zsh or fish')
    .addHelpText('after', EXAMPLES)
    .action((shell: string) => {
      process.stdout.write(SCRIPTS[parseChoice('completion', shell, ['bash', 'zsh', 'fish'])]);
    });
}

/** Scripts. Where nothing is found, the shell completes files. */
const SCRIPTS: Readonly<Record<'bash' | 'zsh' | 'fish', string>> = {
  bash: `_tsvm() {
  local line=\${COMP_LINE:0:COMP_POINT} i
  mapfile -t COMPREPLY < <("$1" __complete "$line" 2> /dev/null)
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *: ]] && compopt -o nospace
  # For bash a colon begins a word.
  local word=\${line##*[[:space:]]}
  [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] &&
    for i in "\${!COMPREPLY[@]}"; do COMPREPLY[i]=\${COMPREPLY[i]#"\${word%"\${word##*:}"}"}; done
}
complete -o default -F _tsvm tsvm
`,
  zsh: `#compdef tsvm
local -a found
found=(\${(f)"$(tsvm __complete "\${(j: :)words[1,CURRENT]}" 2> /dev/null)"})
if (( \${#found} )); then compadd -a found; else _files; fi
`,
  fish: `complete -c tsvm -a '(tsvm __complete (commandline -cp) 2> /dev/null)'
`,
};
