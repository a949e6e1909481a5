"""Files from anywhere: names made safe to print, sizes compared with memory, arrays whose headers are read first.

Nothing here knows what a file is about, beyond rows of numbers (`points`): texts, images, token sequences and rules
each have a room of their own.
"""
