"""A submission that is ended takes nothing of its successor's with it."""

import subprocess
import sys

BORN_INTO_THE_END = """
import os, threading, time
from course.grading import watch
from course.grading.limits import Limits
from course.grading.sandbox import find_isolation
from course.grading.session import Session

ended = watch.end_children

def slowly():
    ended()
    if threading.current_thread() is watching:  # as when the machine is busy
        time.sleep(1.5)
        ended()

watching = watch.Watch(Limits(memory_mb=512, processes=5), os.getppid(), lambda: os._exit(1))
watching.start()
watch.adopt_orphans()
bomb = "import os, time\\nfor _ in range(40):\\n    os.fork() or (time.sleep(60), os._exit(0))"
session = Session([bomb + "\\ntime.sleep(60)", "answer = 7"], watching.limits, find_isolation(None), watching)
watch.end_children = slowly
session.ready()
print(session.fetch("answer"), session.starts, session.deadly)
time.sleep(3)
print(session.fetch("answer"), session.process.poll())
watch.end_children = ended
session.close()
"""


def test_a_new_process_is_not_taken_for_the_old_ones():
    done = subprocess.run(
        [sys.executable, "-c", BORN_INTO_THE_END], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["7", "2", "{0}", "7", "None"], done.stderr
