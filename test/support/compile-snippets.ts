/** The compiler over the programs of the documentation. */
import { join } from 'node:path';
import ts from 'typescript';
import { REPOSITORY, type Snippet } from './snippets.js';

/**
 * Compiles all of them in one program, with the options of this repository, where `tsvm` is its src/index.ts. Returns what is wrong with
 * each, by name.
 */
export function compileSnippets(snippets: readonly Snippet[]): Map<string, string[]> {
  const { config } = ts.readConfigFile(join(REPOSITORY, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, REPOSITORY);
  Object.assign(options, {
    allowJs: true,
    checkJs: true,
    paths: { tsvm: [join(REPOSITORY, 'src/index.ts')] },
  });
  const texts = new Map(snippets.map(({ path, code }) => [path, code]));
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile } = host;
  host.fileExists = (path) => texts.has(path) || fileExists(path);
  host.readFile = (path) => texts.get(path) ?? readFile(path);
  const program = ts.createProgram([...texts.keys()], options, host);
  const general = [...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()];
  return new Map(
    snippets.map(({ name, path }) => {
      const file = program.getSourceFile(path);
      const own = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
      return [name, [...general, ...own].map(describe)];
    }),
  );
}

function describe({ file, start, messageText }: ts.Diagnostic): string {
  const text = ts.flattenDiagnosticMessageText(messageText, '\n');
  if (file === undefined || start === undefined) return text;
  const line = file.getLineAndCharacterOfPosition(start).line;
  return `${text}\n  ${file.text.split('\n')[line]?.trim()}`;
}
