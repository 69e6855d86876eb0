"""The endpoints: parse, authorise, call one service, answer."""
