/** The kinds of elements are known by the markup, and not by the checker: a found element may be any of them. */

interface Element {
  [property: string]: any;
}

interface EventTarget {
  [property: string]: any;
}

interface Event {
  [property: string]: any;
}

interface Node {
  [property: string]: any;
}
