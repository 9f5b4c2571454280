/* Strings of a request. */
#include "request.h"

/* Past the NUL of a string, which is there. */
static char *past(char *text) {
  return text + length(text) + 1;
}

int parse_request(struct request *request, char *bytes, ulong size) {
  char *end = bytes + size;
  if (!size || end[-1] || !*bytes) return 0;
  request->name = bytes;
  request->options = past(bytes);
  request->end = end;
  char *at = request->options;
  while (at < end && *at) at = past(at);
  if (at == end) return 0;
  request->operands = at + 1;
  return 1;
}

/* Whether `text` is name=..., and `names` has the name. */
static int is_known(const char *text, const char *names) {
  ulong size = 0;
  while (text[size] && text[size] != '=') size++;
  if (!text[size] || !size || !names) return 0;
  while (*names) {
    ulong n = 0;
    while (names[n] && names[n] != ' ') n++;
    if (n == size) {
      ulong same = 0;
      while (same < n && names[same] == text[same]) same++;
      if (same == n) return 1;
    }
    names += names[n] ? n + 1 : n;
  }
  return 0;
}

const char *unknown_part(const struct request *request, const struct operation *operation) {
  for (char *at = request->options; *at; at = past(at))
    if (!is_known(at, operation->options)) return at;
  int count = 0;
  for (char *at = request->operands; at < request->end; at = past(at)) count++;
  return operation->operands < 0 ? count ? 0 : "operands" : count == operation->operands ? 0 : "operands";
}

const char *next_option(const struct request *request, const char *before, const char *name) {
  char *at = before ? past((char *)before) : request->options;
  for (; *at; at = past(at)) {
    const char *value = after(at, name);
    if (value && *value == '=') return value + 1;
  }
  return 0;
}

const char *option(const struct request *request, const char *name) {
  const char *last = 0;
  for (const char *at = 0; (at = next_option(request, at, name));) last = at;
  return last;
}

long number_option(const struct request *request, const char *name, long most, long fallback) {
  const char *value = option(request, name);
  if (!value) return fallback;
  const char *at = value;
  ulong found = number(&at);
  return at == value || *at || found > (ulong)most ? -EINVAL : (long)found;
}

const char *operand(const struct request *request, int index) {
  for (char *at = request->operands; at < request->end; at = past(at))
    if (!index--) return at;
  return 0;
}
