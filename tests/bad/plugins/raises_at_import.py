import math

SCALE = math.sqrt(-1)
