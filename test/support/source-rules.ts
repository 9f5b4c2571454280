/**
 * Finds, in source text, ways of doing things that went wrong before: paths handed to Node's `fs`, the operator's environment, process-wide
 * state, names in /tmp that can be foreseen, shells, evaluated text.
 *
 * It reads syntax alone, so it asks where a name was imported from, and reports every use of it: a call, an alias, an argument.
 */
import ts from 'typescript';

export const RULES = {
  'fs path':
    'a path goes to Node’s fs; src/host/own-folder.ts opens folders that are ours, pathIn() what lies below a root',
  'no fs here': 'devices and shares reach files through the host’s half or the addon',
  umask: 'the umask belongs to all machines of the process',
  'process.env': 'the environment is the operator’s: read it in src/cli, and pass on what is meant',
  'inherited variable':
    'only what the operator typed may take a variable by its name: environment(parseVariables(options.env ?? []))',
  'evaluated text': 'text is data',
  shell: 'a shell reads what it is given as a program: spawn the program itself',
  'process.exit': 'it ends all machines of the process, with output unwritten: set process.exitCode',
  'foreseen name': 'whoever makes the name first owns it: mkdtemp() in the folder of temporary files',
} as const;

export type RuleName = keyof typeof RULES;

/** A place where source does what a rule is about. */
export interface Finding {
  readonly rule: RuleName;
  readonly file: string;
  /** Outermost function, method or class around it with a name; `module` if there is none. */
  readonly within: string;
  /** Name that is used there: a function of fs, a variable. */
  readonly what: string;
  readonly line: number;
}

/** Functions of fs that take a descriptor, and names that are no functions. Every other name of fs takes a path. */
const NO_PATH = new Set([
  ...['close', 'fstat', 'fsync', 'fdatasync', 'ftruncate', 'fchmod', 'fchown', 'futimes'],
  ...['read', 'readv', 'write', 'writev', 'constants', 'Stats', 'Dirent'],
]);
const FS = /^(node:)?fs(\/promises)?$/;
const CHILD_PROCESS = /^(node:)?child_process$/;
const VM = /^(node:)?vm$/;
const OS = /^(node:)?os$/;
/** Layers that touch no file of the host's by Node's fs at all. */
const WITHOUT_FS = /^((devices|virtio|bus|memory|boot|kvm)\/|host\/(shared-folder|folder-))/;
const SHELLS = /^(\/\S*\/)?(ba|da|z|k)?sh$/;
const SHARED_FOLDERS = /^\/(tmp|var\/tmp|dev\/shm)(\/|$)/;
const MAKES_UNIQUE = new Set(['mkdtemp', 'mkdtempSync']);

/** A name of this file that stands for a module, or for something of it. */
interface Binding {
  readonly module: string;
  /** Name of the export; `*` for the module itself. */
  readonly name: string;
}

/** Finds everything that a rule is about; `file` is its path below src/. */
export function findIn(file: string, text: string): Finding[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true, ts.ScriptKind.TS);
  const bindings = new Map<string, Binding>();
  const found: Finding[] = [];
  const report = (rule: RuleName, node: ts.Node, what: string): void => {
    const { line } = source.getLineAndCharacterOfPosition(node.getStart());
    found.push({ rule, file, within: nameAround(node), what, line: line + 1 });
  };
  const fsRule = WITHOUT_FS.test(file) ? 'no fs here' : 'fs path';

  /** Something of a module is used, or handed on. */
  const use = (node: ts.Node, { module, name }: Binding): void => {
    if (FS.test(module)) {
      if (!NO_PATH.has(name.replace(/Sync$/, ''))) report(fsRule, node, name);
    } else if (CHILD_PROCESS.test(module)) {
      if (name === 'exec' || name === 'execSync') report('shell', node, name);
    } else if (VM.test(module)) {
      report('evaluated text', node, name);
    } else if (OS.test(module)) {
      if (name === 'tmpdir' && !isMadeUnique(node)) report('foreseen name', node, name);
    } else if (isCliFile(file) && /^\.\.?\/environment\.js$/.test(module)) {
      if (!isTyped(node)) report('inherited variable', node, name);
    }
  };

  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      bind(node, bindings);
      return;
    }
    if (ts.isImportEqualsDeclaration(node) && ts.isExternalModuleReference(node.moduleReference)) {
      bindings.set(node.name.text, { module: textOf(node.moduleReference.expression), name: '*' });
      return;
    }
    if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined && !node.isTypeOnly) {
      const module = textOf(node.moduleSpecifier);
      if (node.exportClause !== undefined && ts.isNamedExports(node.exportClause)) {
        for (const { name, propertyName, isTypeOnly } of node.exportClause.elements)
          if (!isTypeOnly) use(node, { module, name: (propertyName ?? name).text });
      } else use(node, { module, name: '*' });
      return;
    }
    if (ts.isTypeNode(node)) return;
    if (ts.isIdentifier(node) && !isPropertyName(node)) {
      const binding = bindings.get(node.text);
      if (binding !== undefined) {
        // `fs.openSync`, `fs.promises.open`: the name behind the module's.
        const [member, whole] = memberOf(node, binding);
        use(whole, member);
      } else if (node.text === 'eval' || node.text === 'Function') report('evaluated text', node, node.text);
    }
    if (ts.isCallExpression(node)) visitCall(node);
    if (ts.isPropertyAccessExpression(node) || ts.isElementAccessExpression(node)) {
      reportMember(node, processMember(node), variableOf(node));
    }
    if (
      ts.isVariableDeclaration(node) &&
      isProcess(node.initializer) &&
      ts.isObjectBindingPattern(node.name)
    ) {
      for (const { propertyName, name } of node.name.elements)
        reportMember(node, (propertyName ?? name).getText(), '*');
    }
    if (ts.isPropertyAssignment(node) && nameText(node.name) === 'shell') {
      if (node.initializer.kind !== ts.SyntaxKind.FalseKeyword) report('shell', node, 'shell');
    }
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node)) {
      if (SHARED_FOLDERS.test(node.text) && !isProse(node)) report('foreseen name', node, node.text);
    }
    ts.forEachChild(node, visit);
  };

  /** Something of `process` is used; of its environment, that variable. */
  const reportMember = (node: ts.Node, member: string | undefined, variable: string): void => {
    if (member === 'umask') report('umask', node, member);
    else if (member === 'exit') report('process.exit', node, member);
    else if (member === 'env' && !isCliFile(file)) report('process.env', node, variable);
  };

  const visitCall = (node: ts.CallExpression): void => {
    const [first, second] = node.arguments;
    const module = first !== undefined && ts.isStringLiteralLike(first) ? first.text : '';
    const { expression } = node;
    const loads =
      expression.kind === ts.SyntaxKind.ImportKeyword ||
      (ts.isIdentifier(expression) && expression.text === 'require') ||
      (ts.isPropertyAccessExpression(expression) && processMember(expression) === 'getBuiltinModule');
    if (loads) use(node, { module, name: '*' });
    const argv = second !== undefined && ts.isArrayLiteralExpression(second) ? second.elements : [];
    const takesText = argv.some((word) => ts.isStringLiteralLike(word) && /^-\w*c$/.test(word.text));
    if (SHELLS.test(module) && takesText) report('shell', node, module);
  };

  ts.forEachChild(source, visit);
  return found;
}

/** Notes what the names of an import stand for. */
function bind(node: ts.ImportDeclaration, bindings: Map<string, Binding>): void {
  const module = textOf(node.moduleSpecifier);
  const clause = node.importClause;
  if (clause === undefined || clause.isTypeOnly) return;
  if (clause.name !== undefined) bindings.set(clause.name.text, { module, name: '*' });
  const names = clause.namedBindings;
  if (names === undefined) return;
  if (ts.isNamespaceImport(names)) bindings.set(names.name.text, { module, name: '*' });
  else {
    for (const { name, propertyName, isTypeOnly } of names.elements)
      if (!isTypeOnly) bindings.set(name.text, { module, name: (propertyName ?? name).text });
  }
}

/** Export of a module that a use of its name is about, and the expression that says so. */
function memberOf(node: ts.Identifier, binding: Binding): [Binding, ts.Node] {
  let whole: ts.Node = node;
  let { name } = binding;
  while (
    (name === '*' || name === 'promises') &&
    ts.isPropertyAccessExpression(whole.parent) &&
    whole.parent.expression === whole
  ) {
    whole = whole.parent;
    name = (whole as ts.PropertyAccessExpression).name.text;
  }
  return [{ module: binding.module, name }, whole];
}

const textOf = (node: ts.Expression): string => (ts.isStringLiteralLike(node) ? node.text : '');
const nameText = (node: ts.PropertyName): string =>
  ts.isIdentifier(node) || ts.isStringLiteralLike(node) ? node.text : '';
const isCliFile = (file: string): boolean => file.startsWith('cli/');

/** A name that is not looked up: behind a dot, of a property, of a declaration. */
function isPropertyName(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.name === node;
  if (ts.isBindingElement(parent)) return parent.propertyName === node || parent.name === node;
  if (ts.isShorthandPropertyAssignment(parent)) return false;
  const named = parent as { name?: ts.Node };
  return named.name === node;
}

/** `process`, and `globalThis.process`. */
function isProcess(node: ts.Node | undefined): boolean {
  if (node === undefined) return false;
  if (ts.isIdentifier(node)) return node.text === 'process';
  return ts.isPropertyAccessExpression(node) && node.name.text === 'process';
}

/** `umask` of `process.umask` and `process['umask']`. */
function processMember(node: ts.PropertyAccessExpression | ts.ElementAccessExpression): string | undefined {
  if (!isProcess(node.expression)) return undefined;
  if (ts.isPropertyAccessExpression(node)) return node.name.text;
  return ts.isStringLiteralLike(node.argumentExpression) ? node.argumentExpression.text : undefined;
}

/** Variable that is read of `process.env`; `*` for all. */
function variableOf({ parent }: ts.Node): string {
  if (ts.isElementAccessExpression(parent) && ts.isStringLiteralLike(parent.argumentExpression))
    return parent.argumentExpression.text;
  return ts.isPropertyAccessExpression(parent) ? parent.name.text : '*';
}

/** `mkdtemp(join(tmpdir(), ...))`: the name does not exist yet and is this process's when it does. */
function isMadeUnique(node: ts.Node): boolean {
  for (let at = node.parent; at !== undefined && !ts.isStatement(at); at = at.parent) {
    if (!ts.isCallExpression(at)) continue;
    const callee = ts.isPropertyAccessExpression(at.expression) ? at.expression.name : at.expression;
    if (MAKES_UNIQUE.has(callee.getText())) return true;
  }
  return false;
}

/** `environment(parseVariables(options.env ?? []))` and no other form: what comes from the command line's `--env`. */
function isTyped(node: ts.Node): boolean {
  const call = node.parent;
  if (!ts.isCallExpression(call) || call.expression !== node) return false;
  const text = call.getText().replace(/\s/g, '');
  const typed = 'parseVariables(options.env??[])';
  return text === typed || text === `environment(${typed})`;
}

/** Text for people, which names a path as an example. */
function isProse(node: ts.Node): boolean {
  if (/\s/.test((node as ts.StringLiteralLike).text)) return true;
  const property = node.parent;
  return ts.isPropertyAssignment(property) && /^(hint|description|example)$/.test(nameText(property.name));
}

function nameAround(node: ts.Node): string {
  const names: string[] = [];
  for (let at: ts.Node | undefined = node.parent; at !== undefined; at = at.parent) {
    const named = at as { name?: ts.Node };
    const isPlace =
      ts.isFunctionDeclaration(at) ||
      ts.isClassDeclaration(at) ||
      ts.isClassElement(at) ||
      (ts.isVariableDeclaration(at) && ts.isSourceFile(at.parent.parent.parent));
    if (!isPlace) continue;
    if (ts.isConstructorDeclaration(at)) names.unshift('constructor');
    else if (named.name !== undefined && !ts.isObjectBindingPattern(named.name))
      names.unshift(named.name.getText());
  }
  return names.join('.') || 'module';
}
