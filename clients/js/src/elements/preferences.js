/** The form of a user's preferences, and its translation into the server's JSON and back. */

// The ways of a type that neither its user nor the list of types decided on.
const PUSHED = { push: true, email: false };

/** Return the types of the form: those that are listed, then those that the user named besides. */
export function typesOf(listed, preferences) {
  const known = new Set(listed.map(({ type }) => type));
  const others = Object.keys(preferences.types).filter((type) => !known.has(type));
  return [...listed, ...others.map((type) => ({ type, title: type, description: null }))];
}

/** Return the ways in which a user is told of a type. */
export function waysOf(preferences, { type, default: ways }) {
  return preferences.types[type] ?? preferences.default ?? ways ?? PUSHED;
}

/**
 * Return the preferences to keep: those of the form, and all that it does not show.
 * @param {object} before what was kept
 * @param {object[]} types those of the form
 * @param {{types: object, least_severity: string, quiet_hours: ?object, locale: string,
 *          address_on: boolean}} form
 */
export function chosenPreferences(before, types, form) {
  const decided = types.filter((one) => one.type in before.types || differs(form.types[one.type], waysOf(before, one)));
  const kept = {
    ...before,
    types: { ...before.types, ...Object.fromEntries(decided.map(({ type }) => [type, form.types[type]])) },
    least_severity: form.least_severity,
    quiet_hours: form.quiet_hours && { ...before.quiet_hours, ...form.quiet_hours },
    locale: form.locale.trim() || null,
  };
  if (before.email) kept.email = { ...before.email, address_on: form.address_on };
  return kept;
}

function differs(ways, others) {
  return ways.push !== others.push || ways.email !== others.email;
}
