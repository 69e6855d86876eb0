/** A JSON Schema of parameters: its shape, and the names that it has for people. */

/** Return a schema without its `$ref`, and without `null` as one of two shapes. */
export function plainSchema(schema, root, hops = 0) {
  if (schema.$ref?.startsWith("#/$defs/") && hops < 8) {
    const { $ref, ...more } = schema;
    return plainSchema({ ...root.$defs?.[$ref.slice("#/$defs/".length)], ...more }, root, hops + 1);
  }
  const shapes = schema.anyOf?.filter((one) => one.type !== "null");
  if (shapes?.length === 1) {
    const { anyOf, ...more } = schema;
    return plainSchema({ ...shapes[0], ...more }, root, hops + 1);
  }
  return schema;
}

/** Return the name of a choice for people; a schema that has none shows the value. */
export function nameOf({ enum: values, const: only, enumNames }, at) {
  return enumNames?.[at] ?? String(values ? values[at] : only);
}

/** Return the name of a value for people, when its schema has one; else the value as it is. */
export function namedValue({ enum: values = [], enumNames = [] }, value) {
  return enumNames[values.indexOf(value)] ?? value;
}
