"""What lies on the sandbox's disk: these files, which need nothing but the standard library and each other.

Two warm processes are started in there, each behind walls of its own (`start`): one reads notebooks (`reader`), a child
process for each, and one runs answers (`server`). Behind the latter work

* the **warm** one itself: it imports the library and runs the notebooks' preludes, once (`preload`); it sees no answer;
* the **first** one of a submission (number 1 in its own process space; `submission`) starts a process for each
  question (`child`), hands it one case after another, reads what comes out, and kills whatever is left before the next;
* the one of a **question** reads the question itself, so that the others never hold it in memory, gives up all rights
  (`confinement`), runs the answer (`cell`) and writes down what came out.

A challenge has a third one, `sampler`: it is the second, but that each submission is one sampler, which asks for every
evaluation of its network on the outside.

`protocol` is what they say to each other and to the outside.
"""
