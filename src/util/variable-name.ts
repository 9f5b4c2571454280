/** Tells whether a text can name a variable of a command's environment, which is `NAME=VALUE`. */
export function isVariableName(name: string): boolean {
  return name !== '' && !name.includes('=');
}
