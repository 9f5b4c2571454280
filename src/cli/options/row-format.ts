/** `--format` and `--filter` of commands that list: a line for each, of its fields; and which of them. */
import { TsvmError } from '../../errors.js';

/** Fields of what is listed, by the names that `--format` and `--filter` have for them. */
export type RowFields = Readonly<Record<string, string>>;

/**
 * Reads a template of a line: `{{.Name}}` stands for a field, whatever its letters’ case, and `\t` and `\n` for tab and newline; all else is as it stands.
 *
 * @throws TsvmError `TSVM_USAGE` that names a placeholder which is none of `fields`
 */
export function parseRowFormat(text: string, fields: readonly string[]): (row: RowFields) => string {
  const parts = text.split(/\{\{(.*?)\}\}/s).map((part, i) => {
    if (i % 2 === 0)
      return { text: part.replace(/\\([tn])/g, (_, letter) => (letter === 't' ? '\t' : '\n')) };
    const field = fields.find((name) => `.${name.toLowerCase()}` === part.trim().toLowerCase());
    if (field !== undefined) return { field };
    throw new TsvmError('TSVM_USAGE', `--format: there is no field '{{${part}}}'`, {
      hint: `json, or of ${fields.map((name) => `{{.${titleOf(name)}}}`).join(', ')}`,
    });
  });
  return (row) => parts.map((part) => ('field' in part ? (row[part.field] ?? '') : part.text)).join('');
}

const titleOf = (name: string): string => `${name.charAt(0).toUpperCase()}${name.slice(1)}`;

/**
 * Reads filters `NAME=VALUE`: those of one name are alternatives, those of different names all hold. A value is compared regardless of the letters’ case.
 *
 * @param filters - how a row is compared, by the name of the filter
 * @throws TsvmError `TSVM_USAGE`
 */
export function parseRowFilters<Row>(
  typed: readonly string[],
  filters: Readonly<Record<string, (row: Row, value: string) => boolean>>,
): (row: Row) => boolean {
  const byName = new Map<string, string[]>();
  for (const text of typed) {
    const [, name = '', value = ''] = /^([^=]*)=(.+)$/s.exec(text) ?? [];
    if (!Object.hasOwn(filters, name)) {
      throw new TsvmError('TSVM_USAGE', `--filter: '${text}' is not NAME=VALUE with a name that there is`, {
        hint: `for example: --filter ${Object.keys(filters)
          .map((known) => `${known}=VALUE`)
          .join(', --filter ')}`,
      });
    }
    byName.set(name, [...(byName.get(name) ?? []), value]);
  }
  return (row) =>
    [...byName].every(([name, values]) => values.some((value) => filters[name]?.(row, value) === true));
}
