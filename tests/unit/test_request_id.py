"""The ids of requests."""

import os

from tornado.httputil import HTTPHeaders

from tornado_rt.request_id import HEADER, WELL_FORMED, request_id_of


def test_made_ids_are_well_formed_and_differ() -> None:
    """Each request without an id gets one of its own."""
    made = [request_id_of(HTTPHeaders()) for _ in range(1000)]
    assert len(set(made)) == len(made)
    assert all(WELL_FORMED.fullmatch(one) and len(one) == 16 for one in made)
    assert request_id_of(HTTPHeaders({HEADER: "mine"})) == "mine"


def test_forked_process_makes_other_ids() -> None:
    """A child and its parent draw different ids."""
    outlet, inlet = os.pipe()
    child = os.fork()
    if not child:
        os.write(inlet, request_id_of(HTTPHeaders()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(inlet)
    with os.fdopen(outlet) as told:
        assert told.read() != request_id_of(HTTPHeaders())
