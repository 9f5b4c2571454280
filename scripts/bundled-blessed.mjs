/** Plugin of the bundler for blessed, which finds its widgets by computed names and is written in sloppy mode. */

/** Widgets that the dashboard needs, and those that they need. */
const WIDGETS = ['Node', 'Screen', 'Element', 'Box', 'Text', 'ScrollableBox', 'ScrollableText', 'Log'];
/** Files that blessed reads beside the bundle, in ../usr: the terminal's description, and that of one it knows nothing of. */
export const TERMINFO = ['xterm', 'xterm-256color', 'xterm.termcap'];

/** Octal numbers and escapes, which only sloppy mode has. */
const OCTAL = [
  [/\b0(377|200)\b/g, '0o$1'],
  [
    /(?<!\\)\\([0-3][0-7]{2})/g,
    (_, digits) => `\\x${Number.parseInt(digits, 8).toString(16).padStart(2, '0')}`,
  ],
];

/** Edits of its files: what stands there, and what is to stand there. */
const EDITS = {
  'lib/program.js': OCTAL.slice(1),
  'lib/tput.js': OCTAL,
  'lib/widget.js': [
    [/widget\.classes = \[[^\]]*\];/, `widget.classes = ${JSON.stringify(WIDGETS)};`],
    [
      /require\('\.\/widgets\/' \+ file\)/,
      `({ ${WIDGETS.map((name) => `${name}: require('./widgets/${name.toLowerCase()}')`).join(', ')} })[name]`,
    ],
    [/widget\.aliases = \{[^}]*\};/, 'widget.aliases = {};'],
  ],
};

export const bundledBlessed = {
  name: 'bundled-blessed',
  transform(code, id) {
    const file = /\/node_modules\/blessed\/(.*)$/.exec(id)?.[1];
    const edits = EDITS[file];
    if (edits === undefined) return undefined;
    return edits.reduce((text, [from, to]) => {
      if (text.search(from) < 0) throw new Error(`blessed's ${file} has no ${from}: it has changed`);
      return text.replace(from, to);
    }, code);
  },
};
