/** `key=value`, as in the arguments of devices on the command line; without `=`, the value is empty. */
export function keyAndValue(option: string): [key: string, value: string] {
  const equals = option.indexOf('=');
  return equals < 0 ? [option, ''] : [option.slice(0, equals), option.slice(equals + 1)];
}
